"""The old gateway's side: lets a new one take its place, once that has proved that it can.

The order is what nothing is lost by. Asked to hand over, it first begins no loads and unloads any more and
waits for those under way, serving as ever. Then it lets nobody in, gives no slot and tells which are taken.
Only when the new one says that it serves does the old one give up: who waits is passed on, answers under way
go on, and the end of each is told. A new one that hangs up before that has changed nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from gateway.fleet.roster import Roster
from gateway.handover.lines import SERVING, TAKE, Estate, Over, encode_estate, encode_over
from gateway.http.turn import Turn, Whose
from gateway.runtime import Hold, Runtime
from gateway.scheduling.names import RequestId
from gateway.scheduling.types import Event, Finished, Left
from supervisor.contract.shell.background_tasks import BackgroundTasks

_log = structlog.get_logger("handover")


@dataclass(frozen=True, slots=True, kw_only=True)
class HandingOver:
    """What it takes of the rest of the gateway."""

    prepare: Callable[[], Awaitable[None]]
    """Lets nobody in any more, and leaves what was learned for the new gateway to read."""
    go_on: Callable[[], Awaitable[None]]
    """Takes that back."""
    give_up: Callable[[], Awaitable[None]]
    """Ends all that only the gateway that serves may do."""


@dataclass(slots=True)
class Succession:
    """One gateway's; `meet` is called with each connection of a gateway that wants its place."""

    runtime: Runtime
    roster: Roster
    turn: Turn
    handing_over: HandingOver
    given_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Another gateway serves."""
    _heirs: dict[asyncio.StreamWriter, set[RequestId]] = field(default_factory=dict)
    """Gateways that follow us, each with the answers that it believes to be under way."""
    _meetings: BackgroundTasks = field(default_factory=BackgroundTasks)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One of them at a time is asked to wait for."""

    def install(self) -> None:
        """Stand behind whoever is told of events already."""
        before = self.runtime.on_event

        def saw(event: Event) -> None:
            before(event)
            if self._heirs and isinstance(event, Finished | Left):
                self._tell(event)

        self.runtime.on_event = saw

    def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand over to whoever is at the other end, and tell it of each answer that ends."""
        self._meetings.start(self._meet(reader, writer))

    async def close(self) -> None:
        """Hang up."""
        await self._meetings.close()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                if await reader.readline() == TAKE:
                    await self._hand_over(reader, writer)
        finally:
            self._heirs.pop(writer, None)
            writer.close()

    async def _hand_over(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hears = asyncio.create_task(reader.readline())
        try:
            async with self._turn:
                if not self.given_up.is_set():
                    await self._until_it_serves(hears, writer)
                else:
                    self._tell_estate(writer)
            await asyncio.wait([hears])
            if self.given_up.is_set():
                await reader.read()  # until the other side hangs up
        finally:
            hears.cancel()

    async def _until_it_serves(self, hears: asyncio.Task[bytes], writer: asyncio.StreamWriter) -> None:
        self.runtime.hold(Hold.MOVES)
        still = asyncio.create_task(self.runtime.wait_until_still())
        await asyncio.wait([hears, still], return_when=asyncio.FIRST_COMPLETED)
        still.cancel()
        if hears.done():
            self._went_away()
            return
        self.runtime.hold(Hold.ALL)
        await self.handing_over.prepare()
        self._tell_estate(writer)
        await asyncio.wait([hears])
        if hears.exception() is None and hears.result() == SERVING:
            await self._give_up()
        else:
            await self.handing_over.go_on()
            self._heirs.pop(writer, None)
            self._went_away()

    def _went_away(self) -> None:
        _log.warning("a new gateway went away before it served; this one goes on")
        self.runtime.hold(Hold.NOTHING)

    async def _give_up(self) -> None:
        _log.info("another gateway serves", under_way=len(self.runtime.under_way))
        self.turn.whose = Whose.ANOTHERS
        self.runtime.hold(Hold.FOR_EVER)
        self.given_up.set()
        await self.handing_over.give_up()

    def _tell_estate(self, writer: asyncio.StreamWriter) -> None:
        under_way = self.runtime.under_way
        self._heirs[writer] = set(under_way)
        held = ((instance, it) for instance, held in self.roster.held.items() for it in held.values())
        estate = Estate(
            tuple(under_way.values()),
            tuple((instance, it.variant, it.context_length) for instance, it in held),
            tuple(self.roster.passed),
        )
        writer.write(encode_estate(estate, asyncio.get_running_loop().time()))

    def _tell(self, event: Finished | Left) -> None:
        for writer, told in self._heirs.items():
            if event.request in told:
                told.discard(event.request)
                writer.write(encode_over(Over.of(event)))
