"""Asks a worker to change its store, and reads its answer line by line.

Translates what may go wrong on the way into the same two errors as loads and unloads. Decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import aiohttp

from gateway.relay.answers import error_text
from gateway.workers.client import WorkerUnreachableError

_CONNECT_S: Final = 5.0
_NO_LIMITS: Final = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
"""A pull takes hours, and says nothing while it computes a digest; who is gone is told by the socket."""
_HEAD: Final = aiohttp.ClientTimeout(total=10.0)
_JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker says."""

    response: aiohttp.ClientResponse
    url: str

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.response.status

    async def refusal(self) -> tuple[int, str]:
        """Return status and text of an answer that is not 200.

        Raises:
            WorkerUnreachableError: it broke off.
        """
        with _translated(self.url):
            body = await self.response.read()
        if self.response.content_type == "application/json":
            return self.status, error_text(body)
        said = body.decode(errors="replace").strip()[:200]
        path = self.response.url.path
        return HTTPStatus.NOT_IMPLEMENTED, f"does not take {self.response.method} {path}: {said}"

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the lines as they come, each with its end.

        Raises:
            WorkerUnreachableError: it broke off.
        """
        while True:
            with _translated(self.url):
                line = await self.response.content.readline()
            if not line:
                return
            if line.strip():
                yield line if line.endswith(b"\n") else line + b"\n"


@asynccontextmanager
async def asked(
    session: aiohttp.ClientSession, method: str, url: str, body: Mapping[str, Any]
) -> AsyncIterator[Answer]:
    """Send a request and yield its answer; on the way out a connection that is not read to its end is closed.

    Raises:
        WorkerUnreachableError: no answer.
    """
    with _translated(url):
        response = await session.request(
            method,
            url,
            data=json.dumps(body).encode(),
            headers=_JSON,
            timeout=_NO_LIMITS,
            allow_redirects=False,
        )
    try:
        yield Answer(response, url)
    finally:
        if response.content.at_eof():
            response.release()
        else:
            response.close()


async def has_blob(session: aiohttp.ClientSession, base_url: str, digest: str) -> bool:
    """Return whether a worker's store has a blob.

    Raises:
        WorkerUnreachableError: no answer.
    """
    url = f"{base_url}/api/blobs/{digest}"
    with _translated(url):
        async with session.head(url, timeout=_HEAD, allow_redirects=False) as response:
            return response.status == HTTPStatus.OK


async def send_blob(
    session: aiohttp.ClientSession,
    base_url: str,
    digest: str,
    chunks: AsyncIterator[bytes],
    size_bytes: int | None,
) -> tuple[int, str]:
    """Send a blob as it comes and return status and error text of the answer.

    Raises:
        WorkerUnreachableError: no answer.
    """
    url = f"{base_url}/api/blobs/{digest}"
    length = {} if size_bytes is None else {"Content-Length": str(size_bytes)}
    headers = {"Content-Type": "application/octet-stream", **length}
    with _translated(url):
        response = await session.post(
            url, data=chunks, headers=headers, timeout=_NO_LIMITS, allow_redirects=False
        )
    try:
        return (response.status, "") if response.ok else await Answer(response, url).refusal()
    finally:
        response.close()


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn the client library's errors into ours."""
    try:
        yield
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise WorkerUnreachableError(f"{url}: {str(error) or type(error).__name__}") from error
