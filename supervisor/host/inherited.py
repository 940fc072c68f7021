"""Takes the clients' socket from systemd: the one it kept while we were dead, or that of `corral.socket`.

Decides which of the descriptors that were passed is the right one, and what becomes of the others. The
protocol is that of sd_listen_fds(3).
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from supervisor.host.listener import BACKLOG, ListenError, resolve
from supervisor.host.notify import NotifySocket

STORED: Final = "corral-listener"
"""The name under which systemd keeps the clients' socket while there is no supervisor."""
_FIRST: Final = 3
"""Descriptors are passed from this number on."""
_UNNAMED: Final = "unknown"

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Passed:
    """One socket that systemd passed; ours from now on."""

    name: str
    socket: socket.socket

    @property
    def address(self) -> str:
        """HOST:PORT where it listens, or what it is instead."""
        if self.socket.family not in (socket.AF_INET, socket.AF_INET6):
            return f"a socket of family {self.socket.family}"
        if not self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return "a socket that does not listen"
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def is_for(self, listen: str) -> bool:
        """Whether it listens where the configuration says; port 0 is any."""
        family, (host, port) = resolve(listen)
        own = self.address
        return self.socket.family == family and own in {
            f"{shown}:{port or own.rpartition(':')[2]}" for shown in (host, f"[{host}]")
        }


def passed_sockets(environ: Mapping[str, str]) -> tuple[Passed, ...]:
    """Return the sockets that were passed to this process; call it once.

    They are not inherited any further, and what is no socket is closed.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return ()
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    count = int(environ.get("LISTEN_FDS", "0"))
    found: list[Passed] = []
    for fd, name in zip(range(_FIRST, _FIRST + count), [*names, *[_UNNAMED] * count], strict=False):
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            passed = socket.socket(fileno=fd)
            passed.set_inheritable(False)
            found.append(Passed(name, passed))
        else:
            _log.warning("a descriptor that systemd passed is no socket", name=name)
            os.close(fd)
    return tuple(found)


def take_listener(listen: str, passed: Sequence[Passed], systemd: NotifySocket) -> socket.socket | None:
    """Return the inheritable socket that listens at HOST:PORT, or None where systemd passed none.

    A socket that was kept and is another one, because the configuration has changed, is closed.

    Raises:
        ListenError: `corral.socket` listens elsewhere, so that its clients would wait for ever.
    """
    right = next((one for one in passed if one.is_for(listen)), None)
    for one in passed:
        if one is not right:
            _give_up(one, listen, systemd, taken=right is not None)
    if right is None:
        return None
    _log.info("took over the socket", address=right.address, name=right.name)
    right.socket.listen(BACKLOG)
    right.socket.set_inheritable(True)
    return right.socket


def keep(listener: socket.socket, systemd: NotifySocket) -> socket.socket:
    """Have systemd keep the socket through our death, with the connections that wait in it; return it.

    It is not taken out again on the way out: a restart, too, is to refuse nobody, and where the stop is a
    stop systemd closes what it keeps.
    """
    systemd.send(f"FDSTORE=1\nFDNAME={STORED}\nFDPOLL=0", listener.fileno())
    return listener


def _give_up(one: Passed, listen: str, systemd: NotifySocket, *, taken: bool) -> None:
    address = one.address
    one.socket.close()
    if one.name == STORED:
        _log.warning("the kept socket is not used any more", address=address, listen=listen)
        systemd.send(f"FDSTOREREMOVE=1\nFDNAME={STORED}")
    elif not taken:
        raise ListenError(
            f"listen: {listen}: systemd passed {address} ({one.name}): give `listen` and ListenStream= of"
            " corral.socket the same address, or disable that unit: systemctl disable --now corral.socket"
        )
    else:
        _log.warning("a second socket of systemd is not used", address=address, name=one.name)
