"""Stands in for systemd's end of sd_notify: a datagram socket that keeps what it is told and given."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.supervisor import PATIENCE_S


@dataclass(slots=True)
class Listening:
    """The socket, and the lines that came in so far."""

    address: str
    socket: socket.socket
    lines: list[str] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)
    """Descriptors that were sent to be kept."""

    def receive(self) -> tuple[str, list[int]]:
        """Wait for the next datagram; return its text and its descriptors."""
        data, fds, _, _ = socket.recv_fds(self.socket, 4096, 8)
        text = data.decode()
        self.lines += text.split("\n")
        self.stored += fds
        return text, fds

    def wait_for(self, line: str) -> str:
        """Receive until a line begins so, and return it."""
        while True:
            text, _ = self.receive()
            for told in text.split("\n"):
                if told.startswith(line):
                    return told


@contextmanager
def listening(address: str) -> Iterator[Listening]:
    """Listen at a path, or in the abstract namespace where the address begins with `@`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        receiver.settimeout(PATIENCE_S)
        manager = Listening(address, receiver)
        try:
            yield manager
        finally:
            for fd in manager.stored:
                _close(fd)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        """The test has done so."""
