"""HTTP to a runner. The only place that sees the HTTP client's exceptions.

Every inference request is streamed, because llama.cpp stops computing for a client that left only when
it finds out while it writes; `return_progress` makes it write during the prompt too. Connections are
not reused: llama.cpp closes each one after a stream.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import aiohttp

from supervisor.engines.embedded.failures import INTERNAL, ApiError, RunnerLostError
from supervisor.engines.embedded.runners import Runner
from supervisor.engines.embedded.sse import SseParser

_OK: Final = 200
_OVERFLOW: Final = "exceed_context_size_error"


class PromptOverflowError(ApiError):
    """The prompt does not fit into a slot's context."""


def open_session() -> aiohttp.ClientSession:
    """Return the client for all runners: no time limits, no pool, no connection limit."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        read_bufsize=2**20,
    )


class Upstream:
    """Asks one runner."""

    def __init__(self, session: aiohttp.ClientSession, runner: Runner) -> None:
        self._session = session
        self._runner = runner

    async def stream(self, path: str, body: Mapping[str, object]) -> AsyncGenerator[dict[str, Any]]:
        """Yield the objects of a streamed answer. Closing the iterator cancels the computation.

        Raises:
            ApiError: the runner refuses, or an error comes in its stream.
            RunnerLostError: the connection broke, or ended before the stream did.
        """
        ask = {**body, "stream": True, "return_progress": True}
        parser = SseParser()
        try:
            async with self._post(path, ask) as response:
                if response.status != _OK:
                    raise _refusal(await response.read(), response.status)
                async for chunk in response.content.iter_any():
                    for event in parser.feed(chunk):
                        if "error" in event:
                            raise _failure(event["error"], response.status)
                        yield event
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            raise RunnerLostError from error

    async def call(self, path: str, body: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 -- any JSON
        """Return the JSON of a short request (tokenize, embeddings, slots).

        Raises:
            ApiError: the runner refuses.
            RunnerLostError: the connection broke.
        """
        try:
            async with self._get(path) if body is None else self._post(path, body) as response:
                content = await response.read()
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            raise RunnerLostError from error
        if response.status != _OK:
            raise _refusal(content, response.status)
        return json.loads(content)

    def _post(self, path: str, body: Mapping[str, object]) -> Any:  # noqa: ANN401 -- aiohttp's context manager
        return self._session.post(
            self._runner.address + path,
            data=json.dumps(body).encode(),
            headers={**self._runner.headers, "Content-Type": "application/json"},
        )

    def _get(self, path: str) -> Any:  # noqa: ANN401 -- aiohttp's context manager
        return self._session.get(self._runner.address + path, headers=self._runner.headers)


def _refusal(content: bytes, status: int) -> ApiError:
    try:
        error = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        error = {"message": content.decode("utf-8", "replace")[:500]}
    return _failure(error, status)


def _failure(error: object, status: int) -> ApiError:
    fields = error if isinstance(error, dict) else {"message": str(error)}
    code = fields.get("code", status if status != _OK else INTERNAL)
    kind = PromptOverflowError if fields.get("type") == _OVERFLOW else ApiError
    return kind(code if isinstance(code, int) else INTERNAL, str(fields.get("message", "")))
