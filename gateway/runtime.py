"""The scheduler's shell: feeds it events, carries its effects out, wakes it at its deadlines.

Decides nothing. One `Runtime` per gateway; all of it runs on the event loop, so that each event is atomic.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Protocol, assert_never

import structlog

from gateway.decisions.memory import Decisions, LoadTrace
from gateway.decisions.queue_rows import waiting_row
from gateway.handover.lines import UnderWay
from gateway.relay.outcome import AttemptFailedError
from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.scheduler import Scheduler
from gateway.scheduling.types import (
    Answering,
    Arrived,
    DeadlinePassed,
    Effect,
    Event,
    Finished,
    Grant,
    Left,
    Load,
    Loaded,
    LoadFailed,
    RanOutOfMemory,
    Reject,
    Rejection,
    RejectReason,
    Resident,
    Unload,
    Unloaded,
)
from gateway.workers.client import WorkerRefusedError, WorkerUnreachableError
from gateway.workers.faults import is_out_of_memory
from supervisor.contract.shell.background_tasks import BackgroundTasks

_log = structlog.get_logger("scheduler")


class RejectedError(Exception):
    """The scheduler gives the request no slot."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.message)
        self.rejection = rejection


class HandedOverError(Exception):
    """No slot is given here any more: another gateway serves, or Corral ends."""


class Hold(IntEnum):
    """What is held back of that which the scheduler orders."""

    NOTHING = 0
    MOVES = 1
    """Loads and unloads are not begun."""
    ALL = 2
    """Nobody is given a slot either."""
    FOR_EVER = 3
    """Whoever waits, or comes, is told to go elsewhere."""


class ModelLoader(Protocol):
    """Carries loads and unloads out."""

    def name(self, variant: Variant) -> str:
        """Return what people call the model."""

    async def load(self, instance: Instance, variant: Variant) -> Resident:
        """Load a model; raises WorkerRefusedError or WorkerUnreachableError."""

    async def unload(self, instance: Instance, variant: Variant) -> None:
        """Unload a model, however often that has to be asked; returns when it or the worker is gone."""


@dataclass(slots=True)
class Lease:
    """A slot that is held, and what is told of the answer in it before it is given back."""

    grant: Grant
    ended_well: bool = False
    """An answer came and was complete; what was refused or broke off teaches nothing about speeds."""
    output_tokens: int | None = None
    """As the worker counted them."""
    prompt_tokens: int | None = None


class Runtime:
    """Owns the scheduler, its timer, the requests that wait and the loads under way."""

    def __init__(self, scheduler: Scheduler, loader: ModelLoader, clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds on the scale of the event loop's timers."""
        self.scheduler = scheduler
        self.on_event: Callable[[Event], None] = lambda _: None
        """Told of every event once the scheduler has taken it in."""
        self.decisions = Decisions(loader.name)
        self._loader = loader
        self._clock = clock
        self.over = asyncio.Event()
        """Set when nothing is ordered here any more, and nobody given anything (`Hold.FOR_EVER`)."""
        self.under_way: dict[RequestId, UnderWay] = {}
        """The slots that were given here and are not given back."""
        self._hold = Hold.NOTHING
        self._held_back: list[tuple[Effect, float]] = []
        self._grants: dict[RequestId, asyncio.Future[Grant]] = {}
        self._arrived: dict[RequestId, Arrived] = {}
        self._moves = BackgroundTasks()
        """Loads and unloads under way."""
        self._timer: asyncio.TimerHandle | None = None

    def feed(self, event: Event) -> None:
        """Give the scheduler an event and start what it answers."""
        now = self._clock()
        effects = self.scheduler.handle(event, now)
        self.on_event(event)
        for effect in effects:
            if self._holds_back(effect):
                self._held_back.append((effect, now))
            else:
                self._carry_out(effect, now)
        self._arm(now)

    def _holds_back(self, effect: Effect) -> bool:
        if isinstance(effect, Load | Unload):
            return self._hold >= Hold.MOVES
        return isinstance(effect, Grant) and self._hold >= Hold.ALL

    def _carry_out(self, effect: Effect, now: float) -> None:
        match effect:
            case Grant():
                self._settle(effect.request, effect)
            case Reject():
                self._settle(effect.request, RejectedError(self._told(effect)))
            case Load():
                self._moves.start(self._load(effect, self.decisions.loading(effect, now)))
            case Unload():
                self.decisions.unloading(effect, now)
                self._moves.start(self._unload(effect))
            case _:
                assert_never(effect)

    # Handing over --------------------------------------------------------------------

    def hold(self, hold: Hold) -> None:
        """Hold back so much from now on, and do what was held back and is not any more."""
        self._hold = hold
        if hold is Hold.FOR_EVER:
            self.over.set()
            self._held_back.clear()
            for future in self._grants.values():
                if not future.done():
                    future.set_exception(HandedOverError())
            return
        waiting, self._held_back = self._held_back, []
        for effect, ordered_at in waiting:
            if self._holds_back(effect):
                self._held_back.append((effect, ordered_at))
            else:
                self._carry_out(effect, ordered_at)

    async def wait_until_still(self) -> None:
        """Return when no load and no unload is under way."""
        await self._moves.wait()

    # Requests ------------------------------------------------------------------------

    @asynccontextmanager
    async def lease(self, request: Arrived) -> AsyncIterator[Lease]:
        """Wait for a slot and hold it; it is given back exactly once, whatever happens.

        Raises:
            RejectedError: there will be no slot.
            HandedOverError: none is given here any more.
        """
        if self._hold is Hold.FOR_EVER:
            raise HandedOverError
        future = asyncio.get_running_loop().create_future()
        self._grants[request.request] = future
        self._arrived[request.request] = request
        ended: Event = Left(request.request)
        try:
            self.feed(request)
            if not future.done():
                self._tell_of_wait(request.request)
            lease = Lease(await future)
            yield lease
            if lease.ended_well:
                ended = Finished(request.request, lease.output_tokens, lease.prompt_tokens)
        except AttemptFailedError as error:
            self.heed(request.request, str(error))
            raise
        finally:
            self._grants.pop(request.request, None)
            self._arrived.pop(request.request, None)
            self.under_way.pop(request.request, None)
            self.feed(ended)

    def heed(self, request: RequestId, words: str) -> None:
        """Tell the scheduler of an answer that failed because its worker's memory ran out.

        `lease` does so of an attempt that failed; of an answer that had begun its relay does.
        """
        held = self.under_way.get(request)
        if held is not None and is_out_of_memory(words):
            variant = held.request.variant
            where = {"worker": str(held.instance), "model": self._loader.name(variant)}
            _log.error("memory ran out", error=words, **where)
            self.feed(RanOutOfMemory(held.instance, variant, words))

    def answering(self, lease: Lease) -> None:
        """Tell that the first bytes of the answer are there."""
        self.feed(Answering(lease.grant.request))

    def waiting(self) -> list[dict[str, Any]]:
        """Return all who wait, each as `queue_rows.waiting_row` tells of it."""
        found = self.scheduler.waiting(self._clock())
        return [waiting_row(one, self._loader.name(one.variant)) for one in found]

    async def close(self) -> None:
        """Stop the timer and the loads under way."""
        if self._timer is not None:
            self._timer.cancel()
        await self._moves.close()

    def _tell_of_wait(self, request: RequestId) -> None:
        """Write where the request stands in line."""
        found = self.scheduler.forecast(request, self._clock())
        if found is not None:
            _log.info("waiting", **waiting_row(found, self._loader.name(found.variant)))

    def _settle(self, request: RequestId, answer: Grant | RejectedError) -> None:
        future = self._grants.get(request)
        if future is None or future.done():
            return  # its client is leaving; `lease` tells the scheduler in a moment
        if isinstance(answer, Grant):
            self.under_way[request] = UnderWay(self._arrived[request], answer.instance, self._clock())
            future.set_result(answer)
        else:
            future.set_exception(answer)

    def _told(self, reject: Reject) -> Rejection:
        """Return why there is no slot; the engines' words about a load do not name the model."""
        request, why = self._arrived.get(reject.request), reject.rejection
        if request is None or why.reason is not RejectReason.LOAD_FAILED:
            return why
        return replace(
            why, message=f"{self._loader.name(request.variant)} could not be loaded: {why.message}"
        )

    async def _load(self, effect: Load, trace: LoadTrace) -> None:
        where = {"worker": str(effect.instance), "model": trace.model, "load": trace.number}
        _log.info("load", **where | trace.facts())
        try:
            resident = await self._loader.load(effect.instance, effect.variant)
        except (WorkerRefusedError, WorkerUnreachableError) as error:
            lasting = isinstance(error, WorkerRefusedError)
            trace.ended(self._clock(), str(error))
            _log.warning("load refused" if lasting else "load broke off", error=str(error), **where)
            no_memory = is_out_of_memory(str(error))
            self.feed(
                LoadFailed(
                    effect.instance, effect.variant, str(error), lasting=lasting, out_of_memory=no_memory
                )
            )
        else:
            trace.ended(self._clock())
            _log.info(
                "loaded",
                seconds=trace.outcome()["seconds"],
                slots=resident.slots,
                size_bytes=resident.size_bytes,
                **where,
            )
            self.feed(Loaded(effect.instance, effect.variant, resident))

    async def _unload(self, effect: Unload) -> None:
        where = {"worker": str(effect.instance), "model": self._loader.name(effect.variant)}
        if effect.in_favour_of is not None:
            where["in_favour_of"] = self._loader.name(effect.in_favour_of)
        _log.info("unload", why=effect.why, **where)
        await self._loader.unload(effect.instance, effect.variant)
        self.feed(Unloaded(effect.instance, effect.variant))

    def _arm(self, now: float) -> None:
        """Sleep until the scheduler's next deadline; nobody polls."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.scheduler.next_deadline(now)
        if due is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(loop.time() + (due - now), self.feed, DeadlinePassed())
