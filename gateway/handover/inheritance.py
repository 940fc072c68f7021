"""The new gateway's side: takes over from those that are there, and counts the slots that they still hold.

Asks every gateway of the runtime directory: the one that serves, and older ones that have not finished. What
they tell is entered process by process, before this gateway gives any slot there. Whoever hangs up holds
nothing any more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog

from gateway.fleet.roster import Held, Roster
from gateway.handover.lines import (
    LONGEST_LINE_BYTES,
    SERVING,
    TAKE,
    Estate,
    Over,
    UnderWay,
    decode_estate,
    decode_over,
)
from gateway.runtime import Runtime
from gateway.scheduling.names import Instance, RequestId
from gateway.scheduling.types import Adopted, Finished, Left
from supervisor.contract.shell.background_tasks import BackgroundTasks

_log = structlog.get_logger("handover")

_NOBODY: Final = (FileNotFoundError, ConnectionRefusedError)


@dataclass(slots=True)
class Predecessor:
    """A gateway that is there already."""

    name: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    estate: Estate = field(default_factory=Estate)

    def key(self, request: RequestId) -> RequestId:
        """Return what its request is called here, where another may have the same id."""
        return RequestId(f"{self.name}/{request}")


@dataclass(slots=True)
class Inheritance:
    """All that is taken over."""

    predecessors: tuple[Predecessor, ...] = ()
    external: Collection[str] = ()
    """Workers whose incarnations each gateway counts for itself."""
    _runtime: Runtime | None = None
    _pending: dict[RequestId, UnderWay] = field(default_factory=dict)
    """Answers on processes that nothing is given to here yet."""
    _hearings: BackgroundTasks = field(default_factory=BackgroundTasks)

    @property
    def is_empty(self) -> bool:
        """Whether nobody was there."""
        return not self.predecessors

    def prepare(self, roster: Roster) -> None:
        """Let the roster know as what models were loaded, which no list tells in full."""
        for predecessor in self.predecessors:
            for variant in predecessor.estate.passed:
                roster.passed.admit(variant, roster.is_held)
            for instance, variant, context in predecessor.estate.held:
                roster.held.setdefault(instance, {})[variant.digest] = Held(variant, context)

    def follow(self, runtime: Runtime) -> None:
        """Hear from now on which answers end."""
        self._runtime = runtime
        for one in self.predecessors:
            told = {one.key(way.request.request): way for way in one.estate.under_way}
            self._pending |= {key: _renamed(way, key) for key, way in told.items()}
            self._hearings.start(self._hear(one, set(told)))

    def seen(self, instance: Instance) -> None:
        """Enter the answers on a process of which was read what it holds, before it serves here."""
        for key, way in list(self._pending.items()):
            if way.instance == instance or (
                way.instance.worker in self.external and way.instance.worker == instance.worker
            ):
                self._enter(key, instance)

    def serve(self) -> None:
        """Enter all the rest, and tell the others that they are not needed any more."""
        for key, way in list(self._pending.items()):
            self._enter(key, way.instance)
        for predecessor in self.predecessors:
            with suppress(ConnectionError):
                predecessor.writer.write(SERVING)

    async def close(self) -> None:
        """Hang up; a gateway that was not told that this one serves goes on."""
        await self._hearings.close()
        for predecessor in self.predecessors:
            predecessor.writer.close()

    def _enter(self, key: RequestId, instance: Instance) -> None:
        way = self._pending.pop(key)
        if self._runtime is not None:
            self._runtime.feed(Adopted(way.request, instance, way.granted_at))

    async def _hear(self, one: Predecessor, told: set[RequestId]) -> None:
        with suppress(ConnectionError, ValueError):
            while line := await one.reader.readline():
                over = decode_over(line)
                key = one.key(over.request)
                told.discard(key)
                self._ended(key, over)
        one.writer.close()
        if told:
            _log.warning("an old gateway ended with answers under way", under_way=len(told))
        for key in told:
            self._ended(key, Over(key, ended_well=False))

    def _ended(self, key: RequestId, over: Over) -> None:
        if self._pending.pop(key, None) is None and self._runtime is not None:
            well = Finished(key, over.output_tokens, over.prompt_tokens)
            self._runtime.feed(well if over.ended_well else Left(key))


def _renamed(way: UnderWay, key: RequestId) -> UnderWay:
    return replace(way, request=replace(way.request, request=key))


@asynccontextmanager
async def inherited(sockets: Iterable[Path], external: Collection[str]) -> AsyncIterator[Inheritance]:
    """Ask the gateways that listen on these sockets to hand over, and wait until they do.

    Raises:
        ValueError: one of them speaks another version's language.
    """
    asked = await asyncio.gather(*map(_ask, sockets))
    inheritance = Inheritance(tuple(one for one in asked if one is not None), external)
    if not inheritance.is_empty:
        _log.info("takes over", gateways=[one.name for one in inheritance.predecessors])
    try:
        yield inheritance
    finally:
        await inheritance.close()


async def _ask(socket_path: Path) -> Predecessor | None:
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket_path), limit=LONGEST_LINE_BYTES)
    except _NOBODY:
        with suppress(FileNotFoundError):
            os.unlink(socket_path)  # noqa: PTH108 -- of one that was killed; quick
        return None
    writer.write(TAKE)
    line = await reader.readline()
    if not line:  # it ended in this moment
        writer.close()
        return None
    estate = decode_estate(line, asyncio.get_running_loop().time())
    return Predecessor(socket_path.name, reader, writer, estate)
