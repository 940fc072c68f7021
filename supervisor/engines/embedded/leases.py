"""Carries out what `residency.py` decides: futures for those who wait, runner processes, one timer.

Decides nothing. A lease is a context manager: its slot is free the moment the block is left, however
that happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

from supervisor.engines.embedded.failures import INTERNAL, ApiError, RunnerLostError, busy, no_memory
from supervisor.engines.embedded.residency import (
    Ask,
    AskId,
    Effect,
    Grant,
    Incarnation,
    Load,
    Reason,
    Refuse,
    Residency,
    Resident,
    Unload,
)
from supervisor.engines.embedded.runners import Runner

_DEATH_S: Final = 1.0
"""How long after a broken connection the runner's end may take to be noticed; else it lives."""


class Start(Protocol):
    """Starts the runner that a load asks for."""

    async def __call__(self, load: Load, on_exit: Callable[[Runner, int], None]) -> Runner:
        """Return the process; it need not be ready."""


class Report(Protocol):
    """Takes what happens to runners, for the log."""

    def __call__(self, event: str, **fields: object) -> object:
        """Tell a person."""


@dataclass(frozen=True, slots=True)
class Row:
    """One resident model with its runner."""

    resident: Resident
    runner: Runner


class Leases:
    """Slots of the loaded models."""

    def __init__(self, core: Residency, start: Start, report: Report) -> None:
        self._core = core
        self._start = start
        self._report = report
        self._ids = count(1)
        self._futures: dict[AskId, asyncio.Future[Runner]] = {}
        self._asks: dict[AskId, Ask] = {}
        """Requests that wait or hold a slot, or lost it with its runner and are about to ask again."""
        self._runners: dict[Incarnation, Runner] = {}
        self._loads: dict[Incarnation, asyncio.Task[None]] = {}
        self._given_up: set[Incarnation] = set()
        """Loads that are to end before they have a process."""
        self._timer: asyncio.TimerHandle | None = None

    def next_id(self) -> AskId:
        """Return an id for an `Ask`."""
        return AskId(next(self._ids))

    @asynccontextmanager
    async def lease(self, ask: Ask) -> AsyncIterator[Runner]:
        """Wait for a slot and hold it.

        When a runner dies, its leases end only once its death is known: else those who wait would be
        given its slots.

        Raises:
            ApiError: the queue is full, or the model cannot be loaded.
        """
        future: asyncio.Future[Runner] = asyncio.get_running_loop().create_future()
        self._futures[ask.id], self._asks[ask.id] = future, ask
        self._act(self._core.arrived(ask, self._now()))
        try:
            runner = await future
            while runner.is_ending():  # killed while it was idle: ask again, for its successor
                await _wait_if_dying(runner)
                runner = await self._asked_again(ask)
            yield runner
        except RunnerLostError:
            await _wait_if_dying(self._futures[ask.id].result())
            raise
        finally:
            del self._futures[ask.id], self._asks[ask.id]
            self._act(self._core.left(ask.id, self._now()))

    async def _asked_again(self, ask: Ask) -> Runner:
        self._futures[ask.id] = asyncio.get_running_loop().create_future()
        self._act([*self._core.left(ask.id, self._now()), *self._core.arrived(ask, self._now())])
        return await self._futures[ask.id]

    def unload(self, model: str, weights: str) -> None:
        """Let the model go as soon as nobody uses it."""
        self._act(self._core.unload(model, weights, self._now()))

    def named(self, model: str, weights: str) -> list[Runner]:
        """Return the runner over these weights if it was asked for under that name."""
        return [
            r.runner
            for r in self.rows()
            if r.resident.variant.weights == weights and model in r.resident.names
        ]

    def rows(self) -> list[Row]:
        """Return the models that are loaded and ready."""
        runners = ((r, self._runners.get(r.incarnation)) for r in self._core.residents)
        return [Row(r, runner) for r, runner in runners if runner is not None and runner.address]

    def context_held(self, weights: str) -> int | None:
        """Return the context of the runner over these weights; None when there is none."""
        held = (r.variant.context_length for r in self._core.residents if r.variant.weights == weights)
        return next(held, None)

    def files(self) -> list[tuple[str, str]]:
        """Return the files, with their state, that runners have or requests are about."""
        variants = (*(r.variant for r in self._core.residents), *(ask.variant for ask in self._asks.values()))
        return [(variant.weights, variant.state) for variant in variants]

    def names(self) -> set[tuple[str, str]]:
        """Return the names, each with its file, that runners were asked for or requests are about."""
        asked = {(ask.variant.weights, ask.model) for ask in self._asks.values()}
        return asked | {(r.variant.weights, name) for r in self._core.residents for name in r.names}

    def waiting(self) -> dict[str, int]:
        """Return how many requests wait, by model."""
        models = [ask.model for ask in self._core.waiting]
        return {model: models.count(model) for model in models}

    def close(self) -> None:
        """End all runners at once."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._loads.values():
            task.cancel()
        for runner in self._runners.values():
            runner.kill()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _act(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Grant(ask, incarnation):
                    _settle(self._futures[ask], self._runners[incarnation])
                case Refuse(ask):
                    _settle(self._futures[ask], self._refusal(effect))
                case Load(incarnation):
                    self._loads[incarnation] = asyncio.create_task(self._load(effect))
                case Unload(incarnation, why):
                    self._report("unload", model=self._model(incarnation), why=why)
                    self._end(incarnation)
        self._arm()

    def _end(self, incarnation: Incarnation) -> None:
        runner = self._runners.get(incarnation)
        if runner is None:  # its process is just being started
            self._given_up.add(incarnation)
        else:
            runner.kill()

    def _refusal(self, refuse: Refuse) -> ApiError:
        match refuse.reason:
            case Reason.QUEUE_FULL:
                return busy()
            case Reason.NO_MEMORY:
                return no_memory(refuse.need_bytes, self._core.memory_bytes)
            case Reason.LOAD_FAILED:
                return ApiError(INTERNAL, refuse.detail)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._core.next_deadline()
        if deadline is not None and deadline != float("inf"):
            self._timer = asyncio.get_running_loop().call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._act(self._core.tick(self._now()))

    async def _load(self, load: Load) -> None:
        began = self._now()
        try:
            runner = await self._start(load, lambda _, code: self._exited(load.incarnation, code))
            self._runners[load.incarnation] = runner
            if load.incarnation in self._given_up:
                runner.kill()
            await runner.wait_ready()
        except (ApiError, OSError) as error:
            self._runners.pop(load.incarnation, None)
            del self._loads[load.incarnation]
            self._given_up.discard(load.incarnation)
            self._report("load_failed", model=load.model, reason=str(error))
            self._act(self._core.load_failed(load.incarnation, str(error), self._now()))
            return
        del self._loads[load.incarnation]
        self._given_up.discard(load.incarnation)
        size_bytes = runner.measure_bytes()
        self._report_loaded(load, runner, size_bytes, self._now() - began)
        estimate = next(r.size_bytes for r in self._core.residents if r.incarnation == load.incarnation)
        self._act(self._core.loaded(load.incarnation, max(size_bytes or 0, estimate), self._now()))

    def _report_loaded(self, load: Load, runner: Runner, size_bytes: int | None, took_s: float) -> None:
        self._report(
            "loaded",
            model=load.model,
            pid=runner.pid,
            slots=load.slots,
            context_length=load.variant.context_length,
            size_bytes=size_bytes,
            took_s=round(took_s, 3),
        )

    def _exited(self, incarnation: Incarnation, code: int) -> None:
        """A process is over. While it loads, the load tells; it knows the reason."""
        if incarnation in self._loads:
            return
        runner = self._runners.pop(incarnation, None)
        if runner is not None:
            model, words = self._model(incarnation), runner.last_words
            self._report("runner_gone", model=model, exit_code=code, last_words=words)
            self._act(self._core.gone(incarnation, self._now()))
            runner.gone.set()

    def _model(self, incarnation: Incarnation) -> str:
        models = (r.names[0] for r in self._core.residents if r.incarnation == incarnation)
        return next(models, "?")


async def _wait_if_dying(runner: Runner) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_DEATH_S):
            await runner.gone.wait()


def _settle(future: asyncio.Future[Runner], result: Runner | ApiError) -> None:
    """Answer one who waits; one that was cancelled meanwhile leaves by itself."""
    if future.done():
        return
    if isinstance(result, ApiError):
        future.set_exception(result)
    else:
        future.set_result(result)
