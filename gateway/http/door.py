"""Takes clients' connections in, as many as there is room for: the others wait in the listen backlog.

A process has only so many descriptors. When they are used up uvloop takes every waiting client in and hangs
up on it, and asyncio writes a traceback a millisecond. So connections are counted here: some descriptors are
kept for workers; when the rest is taken, connections on which nothing is asked give way, those first that
were silent for longest, and until one has gone nobody else is let in. Decides nothing about requests.
"""

from __future__ import annotations

import asyncio
import errno
import heapq
import socket
from contextlib import suppress
from typing import Final

import structlog
from aiohttp import web

from gateway.http.server import ClientServer
from supervisor.contract.shell.background_tasks import BackgroundTasks

MOST_AT_ONCE: Final = 64
"""So many are let in before others get their turn on the event loop."""
SILENT_S: Final = 2.0
"""A connection that was silent for less may have a request on its way."""
_FOR_WORKERS: Final = 64
"""Descriptors, at least: one for each answer under way, and what the gateway itself needs."""
_SHARE_FOR_WORKERS: Final = 3
_GIVING_WAY: Final = 64
"""One in so many connections gives way at a time: looking for the most silent ones looks at all."""
_PAUSE_S: Final = 1.0
"""After the system had no room; sooner if a connection ends."""
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = structlog.get_logger("edge")


def most_clients(descriptors: int) -> int:
    """Return how many connections of clients may be open where a process may have so many descriptors."""
    kept = max(_FOR_WORKERS, descriptors // _SHARE_FOR_WORKERS)
    return max(descriptors - kept, descriptors // 2)


class Door(web.BaseSite):
    """Lets clients in from a listening socket that it shares with whoever handed it over."""

    def __init__(self, runner: web.AppRunner, listener: socket.socket, *, most: int) -> None:
        """`most` connections may be open at a time; `runner` must be a `ClientRunner`."""
        super().__init__(runner)
        self._listener = listener
        self._most = most
        self._entering = BackgroundTasks()
        self._timer: asyncio.TimerHandle | None = None
        self._watches = self._told = self._stopped = False

    @property
    def name(self) -> str:
        """Where it listens."""
        host, port = self._listener.getsockname()[:2]
        return f"http://{host}:{port}"

    @property
    def _clients(self) -> ClientServer:
        assert isinstance(self._runner.server, ClientServer)
        return self._runner.server

    async def start(self) -> None:
        """Let clients in from now on."""
        await super().start()
        self._listener.settimeout(0)
        self._clients.on_closed = self._closed
        self._watch()

    async def stop(self) -> None:
        """Let nobody in any more; who waits is left to others who have the socket."""
        self._stopped = True
        self._look_away()
        self._listener.close()
        await self._entering.wait()
        await super().stop()

    # Whether to look ----------------------------------------------------------

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._watches and not self._stopped:
            asyncio.get_running_loop().add_reader(self._listener, self._let_in)
            self._watches = True

    def _look_away(self, for_s: float | None = None) -> None:
        """Leave clients in the backlog for so long, or until a connection ends."""
        loop = asyncio.get_running_loop()
        if self._watches:
            loop.remove_reader(self._listener)
            self._watches = False
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if for_s is None else loop.call_later(for_s, self._watch)

    def _closed(self) -> None:
        if not self._watches and not self._stopped:
            asyncio.get_running_loop().call_soon(self._watch)  # its descriptor is free in a moment

    # Who comes in -------------------------------------------------------------

    def _let_in(self) -> None:
        for _ in range(MOST_AT_ONCE):
            if len(self._clients.open) + len(self._entering) >= self._most:
                self._full("as many as it may have of open files")
                return
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                self._told = False
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                self._full(error.strerror or "no room")
                return
            self._enter(connection)

    def _enter(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        self._entering.start(self._entered(connection))

    async def _entered(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._clients, connection)
        except OSError:  # it has left already
            connection.close()
            self._closed()

    def _full(self, why: str) -> None:
        """Ask silent connections to leave, and wait for that."""
        if not self._told:
            _log.warning(
                "no further connection can be taken: clients wait until one ends",
                open=len(self._clients.open),
                why=why,
                advice="raise the limit of open files (LimitNOFILE= of the service, ulimit -n)",
            )
        self._told = True
        before = asyncio.get_running_loop().time() - SILENT_S
        silent = ((since, one) for one in self._clients.open if (since := one.silent_since()) is not None)
        leaving = heapq.nsmallest(max(1, self._most // _GIVING_WAY), silent, key=lambda found: found[0])
        self._look_away(_PAUSE_S)
        for since, connection in leaving:
            if since <= before:
                with suppress(OSError):
                    connection.force_close()
