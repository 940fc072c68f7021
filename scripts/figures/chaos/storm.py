"""The run: clients that ask one request after the other, the faults in between, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from gateway.commands.progress_bar import ProgressBar
from scripts.figures.chaos.asks import (
    EMBEDDING_MODEL,
    LATE_MODEL,
    QUICK_MODELS,
    SLOW_MODEL,
    TEXTS,
    Ask,
    Call,
    Client,
    asks,
)
from scripts.figures.chaos.clients import Clients
from scripts.figures.chaos.faults import Faults, Happened
from scripts.figures.chaos.house import DEADLINE_S, House
from scripts.figures.chaos.plan import Fault
from scripts.figures.chaos.remains import descriptors, left_over
from scripts.figures.chaos.verdicts import Seen

_AT_ONCE: Final = 24
"""Clients of the run: three times the slots of a model on both workers."""
_PATIENCE_S: Final = DEADLINE_S + 30.0


@dataclass(slots=True)
class Outcome:
    """All that was seen."""

    seen: list[Seen]
    happened: list[Happened]
    faults: Faults
    vectors: dict[str, Sequence[float]]
    remains: list[str]
    took_s: float


@dataclass(slots=True)
class _Pace:
    """Who waits for whom: a fault for so many requests, and requests for a fault that is late."""

    planned: Sequence[Fault]
    total: int
    begun: int = 0
    finished: int = 0
    made: int = 0
    _moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def begin(self) -> None:
        """Return when the next request may begin: not while a fault that was due long ago has not come."""
        stride = max(1, self.total // len(self.planned))
        async with self._moved:
            await self._moved.wait_for(
                lambda: self.made == len(self.planned) or self.begun < self.planned[self.made].at + stride
            )
            self.begun += 1
            self._moved.notify_all()

    async def wait_for(self, fault: Fault) -> None:
        """Return when it is the fault's turn."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.begun >= fault.at)

    async def fault_made(self) -> None:
        """Let requests go on."""
        async with self._moved:
            self.made += 1
            self._moved.notify_all()


@dataclass(slots=True)
class Storm:
    """One run over one Corral."""

    house: House
    seed: int
    requests: int
    planned: Sequence[Fault]
    _seen: list[Seen] = field(default_factory=list)
    _happened: list[Happened] = field(default_factory=list)
    _bar: ProgressBar = field(default_factory=ProgressBar)
    _now: str = "before the first fault"

    async def run(self) -> Outcome:
        """Return when all requests are answered, all faults made, and what was theirs is given back."""
        async with Clients(self.house.url, patience_s=_PATIENCE_S) as clients:
            vectors = await self._warm_up(clients)
            before, started = await descriptors(self.house), time.monotonic()
            faults = Faults(self.house, clients, self._asking(clients), Random(self.seed))  # noqa: S311 -- a plan
            pace, waiting = _Pace(self.planned, self.requests), asks(self.seed, self.requests)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._make_faults(faults, pace))
                for _ in range(min(_AT_ONCE, self.requests)):
                    tasks.create_task(self._draw(clients, waiting, pace))
            took_s = time.monotonic() - started
        self._bar.say("waiting for slots, queue, processes and descriptors to be as before")
        remains = await left_over(self.house, before)
        self._bar.end()
        return Outcome(self._seen, self._happened, faults, vectors, remains, took_s)

    async def _warm_up(self, clients: Clients) -> dict[str, Sequence[float]]:
        """Load each model once; return what the embedding model makes of the texts.

        Raises:
            SystemExit: Corral does not answer even without faults.
        """
        quiet = [_quiet(model, words=1) for model in (*QUICK_MODELS, LATE_MODEL, SLOW_MODEL)]
        quiet += [_quiet(EMBEDDING_MODEL, text=text) for text in TEXTS]
        seen = [await clients.ask(ask) for ask in quiet]
        for answer in seen:
            if answer.trouble is not None:
                raise SystemExit(f"{answer.ask.model} is not served before any fault: {answer.error}")
        return {answer.ask.text: answer.vector for answer in seen if answer.ask.text}

    async def _draw(self, clients: Clients, waiting: Iterator[Ask], pace: _Pace) -> None:
        for ask in waiting:
            await pace.begin()
            self._seen.append(await clients.ask(ask))
            pace.finished += 1
            self._bar.draw(
                pace.finished, pace.total, f"{pace.finished} of {pace.total}, {pace.made} faults; {self._now}"
            )

    async def _make_faults(self, faults: Faults, pace: _Pace) -> None:
        for fault in self.planned:
            await pace.wait_for(fault)
            self._now = f"{fault.kind} {fault.worker}".strip()
            self._happened.append(await faults.make(fault))
            await pace.fault_made()

    def _asking(self, clients: Clients) -> Asking:
        return Asking(clients, self._seen)


@dataclass(frozen=True, slots=True)
class Asking:
    """Requests that belong to a fault: they are judged with the others."""

    clients: Clients
    seen: list[Seen]

    async def __call__(self, ask: Ask) -> Seen:
        """Make one."""
        seen = await self.clients.ask(ask)
        self.seen.append(seen)
        return seen


def _quiet(model: str, *, words: int = 0, text: str = "") -> Ask:
    call = Call.EMBED if text else Call.CHAT
    name = f"chaos-quiet-{model}-{len(text)}"
    return Ask(id=name, client=Client.RAW, call=call, model=model, words=words, text=text)
