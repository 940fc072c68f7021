"""Tells whoever connects what the fleet looks like: the current snapshot at once, then each change.

Decides how news reach a slow reader: it gets the newest when it can read again, and never delays the
others. Gateways tell back what they know: the last report of each that is connected counts. What snapshots
and reports say is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from supervisor.contract.fleet import FleetSnapshot, encode
from supervisor.contract.reports import LONGEST_REPORT_BYTES, Hung, Known, ReportError, decode_report

_log = structlog.stdlib.get_logger(__name__)


class _Reader(asyncio.Protocol):
    """One connection. Its transport buffers at most one snapshot beyond what the kernel takes."""

    def __init__(self, server: SnapshotServer) -> None:
        self._server = server
        self._paused = self._behind = False
        self._transport: asyncio.WriteTransport | None = None
        self._begun = b""
        self.known: Known | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.set_write_buffer_limits(high=0)
        self._transport = transport
        self._server.readers.add(self)
        self.tell(self._server.line)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        self._server.readers.discard(self)
        if self.known is not None:
            self._server.tell_known()

    def data_received(self, data: bytes) -> None:
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._begun) > LONGEST_REPORT_BYTES:
            _log.error("a gateway's report is too long", most_bytes=LONGEST_REPORT_BYTES)
            self.close()

    def _take(self, line: bytes) -> None:
        try:
            told = decode_report(line)
        except ReportError as error:
            _log.error("a gateway's report is not understood", error=str(error))
            return
        if isinstance(told, Hung):
            self._server.on_hung(told)
        else:
            self.known = told
            self._server.tell_known()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._behind:
            self.tell(self._server.line)

    def tell(self, line: bytes) -> None:
        """Send the line now, or the newest one once the reader has caught up."""
        self._behind = self._paused
        if not self._paused and self._transport is not None:
            self._transport.write(line)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


@dataclass(slots=True)
class SnapshotServer:
    """The supervisor's unix socket."""

    path: Path
    line: bytes
    """The current snapshot as it is sent."""
    on_known: Callable[[tuple[Known, ...]], None] = lambda _: None
    """Gets what every gateway that is connected knows, whenever that changed."""
    on_hung: Callable[[Hung], None] = lambda _: None
    """Gets each report of a worker that answers no more."""
    readers: set[_Reader] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, in place of a socket that a killed supervisor may have left.

        The path appears only when a connection to it is accepted, so nobody is ever refused there.
        """
        fresh = self.path.with_name(f".{self.path.name}")
        fresh.unlink(missing_ok=True)
        listener = bind_privately(fresh)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Reader(self), sock=listener)
        fresh.replace(self.path)

    def publish(self, snapshot: FleetSnapshot) -> None:
        """Tell every reader."""
        self.line = encode(snapshot)
        for reader in self.readers:
            reader.tell(self.line)

    def tell_known(self) -> None:
        """Tell what the gateways know now."""
        self.on_known(tuple(reader.known for reader in self.readers if reader.known is not None))

    def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
        for reader in self.readers:
            reader.close()
        with suppress(FileNotFoundError):
            self.path.unlink()


def bind_privately(path: Path) -> socket.socket:
    """Return a socket that only we may connect to."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(umask)
    return listener
