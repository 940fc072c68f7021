"""Ollama's native API: NDJSON streams by default, `{"error": text}`, `"done":true` at the end.

Decides what its requests mean and how its answers end. Knows nothing of HTTP or workers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from gateway.surfaces.surface import (
    RUNNER_OPTIONS,
    BadRequestError,
    Facts,
    ParsedRequest,
    last_count,
    read_flag,
    read_model,
    read_object,
)
from supervisor.contract.durations import InvalidDurationError, parse_keep_alive

_PROMPT_KEY: Final = {"/api/generate": "prompt", "/api/chat": "messages"}
_STREAMED: Final = frozenset(_PROMPT_KEY)


class OllamaSurface:
    """generate, chat, embed and embeddings."""

    name = "ollama"
    routes = frozenset({"/api/generate", "/api/chat", "/api/embed", "/api/embeddings"})
    carries_context = True

    def parse(self, route: str, body: bytes) -> ParsedRequest:
        """Read a request and take out what is the gateway's to decide.

        keep_alive is a wish to the scheduler, and options that would reload a runner are the
        operator's; neither reaches the worker.
        """
        request = read_object(body)
        model = read_model(request)
        keep_alive_given, keep_alive_s = _keep_alive(request)
        ignored = _runner_options(request)
        unload = keep_alive_given and keep_alive_s == 0.0 and _asks_nothing(route, request)
        facts = Facts(
            model=model,
            stream=read_flag(request, "stream", default=True) if route in _STREAMED else False,
            keep_alive_s=keep_alive_s,
            keep_alive_given=keep_alive_given,
            ignored_options=ignored,
        )
        reply = _unload_reply(route, model) if unload else None
        return ParsedRequest(facts, _for_worker(request, body, ignored), reply)

    def error(self, status: int, message: str) -> bytes:  # noqa: ARG002 -- the status is no part of this shape
        """Return `{"error": message}`."""
        return json.dumps({"error": message}).encode()

    def error_frame(self, message: str) -> bytes:
        """Return the error as a last line."""
        return self.error(500, message) + b"\n"

    def final_mark(self, route: str) -> bytes:  # noqa: ARG002 -- the same on all routes
        r"""Return the last frame's mark; inside a JSON text its quotes would be escaped."""
        return b'"done":true'

    def tokens(self, tail: bytes) -> int | None:
        """Return `eval_count` of the last frame."""
        return last_count(b'"eval_count":', tail)


def _keep_alive(request: Mapping[str, Any]) -> tuple[bool, float | None]:
    value = request.get("keep_alive")
    if value is None:
        return False, None
    try:
        return True, parse_keep_alive(value)
    except InvalidDurationError as error:
        raise BadRequestError(str(error)) from error


def _runner_options(request: Mapping[str, Any]) -> dict[str, Any]:
    options = request.get("options")
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise BadRequestError("options must be an object")
    return {key: options[key] for key in RUNNER_OPTIONS if key in options}


def _asks_nothing(route: str, request: Mapping[str, Any]) -> bool:
    key = _PROMPT_KEY.get(route)
    return key is not None and not request.get(key)


def _unload_reply(route: str, model: str) -> dict[str, Any]:
    """Return what Ollama answers to an empty request with `keep_alive: 0`."""
    content: dict[str, Any] = {"response": ""}
    if route == "/api/chat":
        content = {"message": {"role": "assistant", "content": ""}}
    return {"model": model, **content, "done": True, "done_reason": "unload"}


def _for_worker(request: dict[str, Any], body: bytes, ignored: Mapping[str, Any]) -> bytes:
    """Return the client's own bytes unless something has to be left out."""
    if "keep_alive" not in request and not ignored:
        return body
    kept = {key: value for key, value in request.items() if key != "keep_alive"}
    if ignored:
        kept["options"] = {k: v for k, v in request["options"].items() if k not in ignored}
    return json.dumps(kept, ensure_ascii=False).encode()
