"""Asks another process whether it can take requests yet: one HTTP GET, answered by 200 or not.

Decides what counts as ready and how soon to ask again. A client library would cost more memory than the
rest of the supervisor, and this is all that is needed of one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

ANSWER_TIMEOUT_S: Final = 5.0
_FIRST_WAIT_S: Final = 0.02
_GROWTH: Final = 1.2
"""Each wait is this much longer, so that the time lost is a small share of the time it took."""
_LONGEST_WAIT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Loopback:
    """A TCP port of this machine."""

    port: int


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A socket in the file system."""

    path: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Where to ask, and what."""

    address: Loopback | UnixSocket
    path: str


async def wait_until_ready(probe: Probe) -> None:
    """Ask until the answer is 200. Ends by being cancelled when the process is given up."""
    wait_s = _FIRST_WAIT_S
    while not await answers(probe):
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * _GROWTH, _LONGEST_WAIT_S)


async def answers(probe: Probe, within_s: float = ANSWER_TIMEOUT_S) -> bool:
    """Ask once; return whether the answer is 200."""
    try:
        async with asyncio.timeout(within_s):
            return await _get(probe)
    except (OSError, TimeoutError):
        return False


async def _get(probe: Probe) -> bool:
    reader, writer = await _connect(probe.address)
    try:
        request = f"GET {probe.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        status_line = await reader.read(64)
    finally:
        writer.close()
    return status_line.split(b" ")[1:2] == [b"200"]


async def _connect(
    address: Loopback | UnixSocket,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(address, UnixSocket):
        return await asyncio.open_unix_connection(address.path)
    return await asyncio.open_connection("127.0.0.1", address.port)


def free_port(taken: Collection[int]) -> int:
    """Return a loopback port that nobody listens on now and that is not among `taken`.

    Somebody may take it before the worker does; then the worker ends, and its successor gets another.
    """
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in taken:
            return port
