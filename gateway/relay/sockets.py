"""The sockets of connections to workers: a host that vanished without a word must be noticed.

When a machine loses power or a cable is pulled no reset comes, and TCP by itself goes on trying for a
quarter of an hour. Decides how long it tries. Neither limit hurts a worker that only computes for long: its
kernel goes on acknowledging. One that takes nothing of a large request for so long counts as hung.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

SILENCE_S: Final = 10
"""A peer that acknowledges nothing for so long is gone."""
IDLE_S: Final = 5
"""Without traffic the peer is asked for a sign of life after this long, and then every second."""

Option = tuple[int, int, int]


@dataclass(slots=True)
class Opened:
    """Connections that were begun for a request; none where a pooled one was taken."""

    count: int = 0


_opened: ContextVar[Opened | None] = ContextVar("opened", default=None)


@contextmanager
def counting_connections() -> Iterator[Opened]:
    """Count the connections that are begun in the block: the client library does not tell."""
    opened = Opened()
    token = _opened.set(opened)
    try:
        yield opened
    finally:
        _opened.reset(token)


def socket_options() -> tuple[Option, ...]:
    """Return (level, name, value) of the options of this operating system that end a silent connection."""
    return ((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *_tcp_options())


def _tcp_options() -> Iterator[Option]:
    values = {
        "TCP_USER_TIMEOUT": SILENCE_S * 1000,  # Linux: data that is not acknowledged, and keepalive too
        "TCP_KEEPIDLE": IDLE_S,
        "TCP_KEEPALIVE": IDLE_S,  # what macOS calls TCP_KEEPIDLE
        "TCP_KEEPINTVL": 1,
        "TCP_KEEPCNT": SILENCE_S - IDLE_S,
    }
    for name, value in values.items():
        option = getattr(socket, name, None)
        if option is not None:
            yield socket.IPPROTO_TCP, option, value


def worker_socket(
    address: tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]],
) -> socket.socket:
    """Return an unconnected socket for an entry of `getaddrinfo`, as aiohttp's connector asks for it."""
    opened = _opened.get()
    if opened is not None:
        opened.count += 1
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    for level, name, value in socket_options():
        made.setsockopt(level, name, value)
    return made
