"""Sends datagrams to systemd as sd_notify(3) describes it, file descriptors included.

Decides nothing about what is sent: `supervisor/core/notifications.py` does. Without $NOTIFY_SOCKET nobody
listens.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

_PATIENCE_S: Final = 2.0
"""systemd's queue is long; where it is full for this time, a datagram is given up and the log says so."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NotifySocket:
    """Where systemd listens, and how long it waits for a sign of life."""

    address: str
    """A path, or behind `@` a name in the abstract namespace; empty where nobody listens."""
    watchdog_s: float | None = None

    def send(self, text: str, *descriptors: int) -> None:
        """Send the lines of one datagram, with these descriptors."""
        if not self.address or not text:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_PATIENCE_S)
                sender.connect(_address(self.address))
                socket.send_fds(sender, [text.encode()], list(descriptors))
        except OSError as error:
            _log.warning("systemd was not told", datagram=text, error=str(error))


NOBODY: Final = NotifySocket("")
"""No systemd listens."""


def notify_socket(environ: Mapping[str, str]) -> NotifySocket:
    """Return the socket that the environment names.

    A watchdog that is meant for another process, by $WATCHDOG_PID, is none of ours.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        if address:
            _log.warning("systemd is not told anything: NOTIFY_SOCKET is no unix socket", address=address)
        return NOBODY
    return NotifySocket(address, _watchdog_s(environ))


def _address(address: str) -> str:
    return f"\0{address[1:]}" if address.startswith("@") else address


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    usec = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
    return int(usec) / 1e6 if meant and usec.isdecimal() and int(usec) > 0 else None
