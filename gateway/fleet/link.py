"""Follows the supervisor's fleet snapshots over its unix socket, and tells it back; reconnects for ever.

Decides which snapshot is newer and nothing about what to do with it. The last good one stays in force
while the supervisor cannot be reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from supervisor.contract.fleet import FleetSnapshot, SnapshotError, decode
from supervisor.contract.reports import Hung, Known, encode_report

_log = structlog.get_logger("fleet")

_RECONNECT_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Waits between attempts; the last one repeats."""
_MAX_LINE_BYTES: Final = 4 * 2**20


def is_newer(snapshot: FleetSnapshot, than: FleetSnapshot | None) -> bool:
    """Whether a snapshot replaces another: a new boot always does, else the higher generation."""
    if than is None or snapshot.boot_id != than.boot_id:
        return True
    return snapshot.generation > than.generation


@dataclass(slots=True)
class Reports:
    """What is told back: what we know, again on every new connection, and each hung worker once."""

    _known: Known | None = None
    _hung: list[Hung] = field(default_factory=list)
    """Not told yet: the supervisor cannot be reached."""
    _writer: asyncio.StreamWriter | None = None

    def say(self, known: Known) -> None:
        """Tell the supervisor, now or when it can be reached again, unless it knows."""
        if known != self._known:
            self._known = known
            self._send_known()

    def tell(self, hung: Hung) -> None:
        """Tell of a hung worker, now or when the supervisor can be reached again."""
        self._hung.append(hung)
        self._send_hung()

    def connected(self, writer: asyncio.StreamWriter | None) -> None:
        """Speak on this connection from now on; None is on none."""
        self._writer = writer
        self._send_known()
        self._send_hung()

    def _send_known(self) -> None:
        if self._writer is not None and self._known is not None:
            self._writer.write(encode_report(self._known))

    def _send_hung(self) -> None:
        if self._writer is not None:
            self._writer.writelines(map(encode_report, self._hung))
            self._hung.clear()


async def follow(
    socket_path: str, on_snapshot: Callable[[FleetSnapshot], None], reports: Reports | None = None
) -> None:
    """Call `on_snapshot` with each newer snapshot, until cancelled."""
    told = Reports() if reports is None else reports
    last: FleetSnapshot | None = None
    failures = 0
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(socket_path, limit=_MAX_LINE_BYTES)
        except OSError as error:
            await _pause(failures, f"{socket_path}: {error}")
            failures += 1
            continue
        failures = 0
        told.connected(writer)
        try:
            last = await _read_all(reader, last, on_snapshot)
        finally:
            told.connected(None)
            writer.close()
        await _pause(failures, f"{socket_path}: the supervisor closed the connection")


async def _read_all(
    reader: asyncio.StreamReader, last: FleetSnapshot | None, on_snapshot: Callable[[FleetSnapshot], None]
) -> FleetSnapshot | None:
    """Pass snapshots on until the connection ends; return the newest."""
    while True:
        try:
            line = await reader.readline()
        except (OSError, ValueError) as error:
            _log.warning("fleet link broken", error=str(error))
            return last
        if not line:
            return last
        try:
            snapshot = decode(line)
        except SnapshotError as error:
            _log.error("fleet snapshot not understood; the last good one stays", error=str(error))
            continue
        if is_newer(snapshot, last):
            last = snapshot
            on_snapshot(snapshot)


async def _pause(failures: int, why: str) -> None:
    if failures == len(_RECONNECT_S):
        _log.warning("no fleet snapshots; serving with the last one", error=why)
    await asyncio.sleep(_RECONNECT_S[min(failures, len(_RECONNECT_S) - 1)])
