"""HTTP by hand, for requests that no client's library would send."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

PATIENCE_S: Final = 10.0


@dataclass(frozen=True)
class RawAnswer:
    """What came back until the server closed the connection."""

    status: int
    headers: dict[str, str]
    """By lower-case names."""
    body: bytes
    """As it is on the wire, chunks included."""


def head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Return a request's head."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


async def ask(url: str, method: str, target: str, body: bytes = b"", /, **headers: str) -> RawAnswer:
    """Send one request with exactly these headers, Host and Content-Length added where they lack.

    A `_` in a header's name stands for `-`; one without value is left out.
    """
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    own = {"Host": urlsplit(url).netloc, "Connection": "close"}
    if body and "Transfer-Encoding" not in named:
        own["Content-Length"] = str(len(body))
    whole = {name: value for name, value in {**own, **named}.items() if value is not None}
    return await send(url, head(method, target, whole) + body)


async def send(url: str, data: bytes) -> RawAnswer:
    """Send bytes and read until the server closes."""
    parts = urlsplit(url)
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(data)
            await writer.drain()
            return parsed(await reader.read())
        finally:
            writer.close()


def parsed(data: bytes) -> RawAnswer:
    """Take an answer apart."""
    top, _, body = data.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    return RawAnswer(int(first.split()[1]), {name.lower(): value for name, _, value in pairs}, body)
