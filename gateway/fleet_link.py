"""Follows the supervisor's fleet snapshots over its unix socket; reconnects for ever.

Decides which snapshot is newer and nothing about what to do with it. The last good one stays in force
while the supervisor cannot be reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from supervisor.contract.fleet import FleetSnapshot, SnapshotError, decode

_log = structlog.get_logger("fleet")

_RECONNECT_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Waits between attempts; the last one repeats."""
_MAX_LINE_BYTES: Final = 4 * 2**20


def is_newer(snapshot: FleetSnapshot, than: FleetSnapshot | None) -> bool:
    """Whether a snapshot replaces another: a new boot always does, else the higher generation."""
    if than is None or snapshot.boot_id != than.boot_id:
        return True
    return snapshot.generation > than.generation


async def follow(socket_path: str, on_snapshot: Callable[[FleetSnapshot], None]) -> None:
    """Call `on_snapshot` with each newer snapshot, until cancelled."""
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
        try:
            last = await _read_all(reader, last, on_snapshot)
        finally:
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
