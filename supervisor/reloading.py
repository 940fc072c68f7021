"""Brings a changed configuration into force: read, validate, plan, log the plan, apply.

Decides the order of these and what is told; what changes is `core/reload.py`'s to say. A file with mistakes
changes nothing. Reloads that are asked for while one runs become one more, which sees the file as it is then.
Where a worker that served does not come up with its new settings, those not yet changed are left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import structlog

from supervisor.contract.changes import in_force
from supervisor.contract.command import EXIT_FAILED, EXIT_USAGE
from supervisor.contract.config import Config
from supervisor.contract.fleet import WorkerState
from supervisor.contract.logs import set_level
from supervisor.contract.yaml_config import ConfigError
from supervisor.core.fleet import drained_by_hand
from supervisor.core.reload import Arrangement, Fate, Plan, Step, as_json, as_text, plan
from supervisor.core.spec import WorkerSpec
from supervisor.gateways import GATEWAY, gateway_timings
from supervisor.host.control import Answer, Question
from supervisor.jobs import WorkerJobs
from supervisor.runtime import Runtime

_log = structlog.stdlib.get_logger(__name__)

_GATEWAY_S: Final = 10.0
"""For the gateway to take new settings, or a new worker; one that is being replaced does when it starts."""
_EMPTY: Final = "the file is empty, as while it is being written; for all defaults write a comment into it"
_SETTLED: Final = (WorkerState.READY, WorkerState.BACKOFF, WorkerState.QUARANTINED, WorkerState.STOPPED)


class Found(Protocol):
    """What the file means on this machine, now."""

    @property
    def config(self) -> Config:
        """The file."""

    @property
    def text(self) -> str:
        """The same word for word."""

    @property
    def workers(self) -> tuple[WorkerSpec, ...]:
        """The workers it means."""


class Watcher(Protocol):
    """Whoever tells the world of reloads."""

    def reload_began(self) -> None:
        """The file is being read again."""

    def reload_ended(self, result: str) -> None:
        """It is in force, or it is not: `result` is a sentence for people."""


class ReloadFailedError(Exception):
    """A reload that came to an end before everything was done; the text says what is so now."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class _Run:
    """One reload and what it told so far."""

    told: list[Answer] = field(default_factory=list)
    ended: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, answer: Answer) -> None:
        self.told.append(answer)
        self.ended = self.ended or "done" in answer or "error" in answer
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self) -> AsyncGenerator[Answer, None]:
        """Yield all that was and will be told of it."""
        at = 0
        while True:
            news = self._news
            while at < len(self.told):
                yield self.told[at]
                at += 1
            if self.ended:
                return
            await news.wait()


@dataclass(slots=True, kw_only=True)
class Reloads:
    """All reloads of one Corral. Its only state is what is in force and what is asked for."""

    runtime: Runtime
    jobs: WorkerJobs
    start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    """Runs a task that ends with the supervisor."""
    reread: Callable[[], Found]
    """Reads and checks the file; raises ConfigError."""
    accept: Callable[[str], None]
    """Keeps the text of an accepted file for gateways; raises OSError."""
    attend: Callable[[Iterable[WorkerSpec]], None]
    """Hears which workers there are from now on."""
    now: Arrangement
    """What is in force."""
    watcher: Watcher
    turn: asyncio.Lock
    """Held while workers are changed."""
    _running: _Run | None = None
    _next: _Run | None = None
    _task: asyncio.Task[None] | None = None

    async def reload(self, question: Question) -> AsyncGenerator[Answer, None]:
        """Answer `corral reload`."""
        if question.get("dry_run"):
            async for answer in self._rehearse():
                yield answer
            return
        run = self.ask()
        if run is self._next:
            yield {"progress": "waits for the reload that is under way"}
        async for answer in run.follow():
            yield answer

    def ask(self) -> _Run:
        """Have the file read again, once more if that is being done now."""
        if self._running is None:
            run = self._running = _Run()
            self._task = self.start(self._work())
            return run
        if self._next is None:
            self._next = _Run()
        return self._next

    async def close(self) -> None:
        """Leave off, because everything ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while self._running is not None:
            run = self._running
            self.watcher.reload_began()
            result = await self._attempt(run)
            self.watcher.reload_ended(result)
            self._running, self._next = self._next, None

    async def _attempt(self, run: _Run) -> str:
        """Reload once; tell of it and return a sentence about it."""
        try:
            found, planned = await self._plan()
            run.tell({"plan": as_json(planned)})
            _tell_log(planned)
            async with self.turn:
                try:
                    await self._apply(found, planned, run)
                finally:
                    self.attend(self.now.specs)
        except ReloadFailedError as error:
            _log.error("reload failed", error=str(error))
            run.tell({"error": str(error), "code": error.code})
            return f"failed: {error}"
        result = _result(planned)
        _log.info("reloaded", result=result)
        run.tell({"done": {"result": result, "plan": as_json(planned)}})
        return result

    async def _rehearse(self) -> AsyncGenerator[Answer, None]:
        try:
            _, planned = await self._plan()
        except ReloadFailedError as error:
            yield {"error": str(error), "code": error.code}
        else:
            yield {"plan": as_json(planned)}
            yield {"done": {"result": "nothing was done: a rehearsal", "plan": as_json(planned)}}

    async def _plan(self) -> tuple[Found, Plan]:
        """Read the file beside the event loop: looking at GPUs and models takes its time."""
        try:
            found = await asyncio.to_thread(self.reread)
        except (ConfigError, OSError) as error:
            raise ReloadFailedError(f"nothing was changed: {error}", EXIT_USAGE) from error
        if not found.text.strip() and self.now.config != Config():
            raise ReloadFailedError(f"nothing was changed: {_EMPTY}", EXIT_USAGE)
        wanted = Arrangement(config=found.config, specs=found.workers)
        return found, plan(self.now, wanted, process_of=self.jobs.process_of)

    # Applying it --------------------------------------------------------------------------

    async def _apply(self, found: Found, planned: Plan, run: _Run) -> None:
        try:
            self.accept(found.text)
        except OSError as error:
            text = f"nothing was changed: the accepted file cannot be kept: {error}"
            raise ReloadFailedError(text, EXIT_FAILED) from error
        self.now = replace(self.now, config=in_force(self.now.config, found.config))
        set_level(found.config.log.level)
        self.jobs.drain_for(found.config.drain_timeout)
        self.runtime.retime([status.worker for status in self.runtime.fleet.workers], self.jobs.timings)
        self.runtime.retime([GATEWAY], gateway_timings(found.config))
        await self._have_gateway_take_it(run)
        specs = {spec.name: spec for spec in found.workers}
        for worker in planned.workers:
            if worker.fate is Fate.ADJUSTED:
                self.runtime.respecify(self.jobs.job(specs[worker.name]), specs[worker.name])
                self._is_now(specs[worker.name])
        for step in planned.steps:
            await self._take(step, specs, run)
        self.runtime.order(tuple(specs))
        self.now = replace(self.now, specs=found.workers)

    async def _have_gateway_take_it(self, run: _Run) -> None:
        number = self.runtime.accepted()
        try:
            async with asyncio.timeout(_GATEWAY_S):
                await self.runtime.wait_until(lambda _: self.runtime.settings_in_force >= number)
        except TimeoutError:
            _log.warning("the gateway has not taken the new settings yet", within_s=_GATEWAY_S)
            run.tell({"progress": "the gateway has not taken the new settings yet; it does when it can"})

    async def _take(self, step: Step, specs: dict[str, WorkerSpec], run: _Run) -> None:
        served = {name for name in step.start if self._state(name) is WorkerState.READY}
        wanted = {name for name in step.stop if self.runtime.is_wanted(name)}
        if step.stop:
            run.tell({"progress": f"draining {_listed(step.stop)}"})
            await self._stop(step.stop, specs)
        rests = {name: drained_by_hand(name) for name in step.stop if name not in wanted}
        for name in step.start:
            self.runtime.add(self.jobs.job(specs[name]), specs[name], rests=rests.get(name, ""))
            self._is_now(specs[name])
        if step.start:
            run.tell({"progress": f"starting {_listed(step.start)}"})
            await self._see_them_serve(step.start)
        failed = [name for name in served if self._state(name) is not WorkerState.READY]
        if failed:
            text = (
                f"{_listed(failed)} served and does not come up with the new settings ({self._why(failed)}); "
                "workers that were to be changed after that keep theirs: mend the file and reload"
            )
            raise ReloadFailedError(text, EXIT_FAILED)

    async def _see_them_serve(self, names: Iterable[str]) -> None:
        """Return when all are up or have failed, and those that are up get requests, if they do soon."""
        coming = tuple(names)
        await self.runtime.wait_until(lambda _: all(self._state(name) in _SETTLED for name in coming))
        up = [name for name in coming if self._state(name) is WorkerState.READY]
        with suppress(TimeoutError):
            async with asyncio.timeout(_GATEWAY_S):
                await self.runtime.wait_until(lambda _: all(map(self.runtime.is_served, up)))

    async def _stop(self, names: Iterable[str], specs: dict[str, WorkerSpec]) -> None:
        stopping = tuple(names)
        for name in stopping:
            self.runtime.drain(name)
        await self.runtime.wait_until(
            lambda _: all(self._state(name) is WorkerState.STOPPED for name in stopping)
        )
        for name in stopping:
            if name not in specs:
                self.runtime.forget(name)
                self.now = replace(self.now, specs=tuple(s for s in self.now.specs if s.name != name))

    def _is_now(self, spec: WorkerSpec) -> None:
        others = tuple(other for other in self.now.specs if other.name != spec.name)
        self.now = replace(self.now, specs=(*others, spec))

    def _state(self, name: str) -> WorkerState | None:
        status = self.runtime.status(name)
        return None if status is None else status.state

    def _why(self, names: Iterable[str]) -> str:
        statuses = (self.runtime.status(name) for name in names)
        return "; ".join(f"{s.worker}: {s.reason}" for s in statuses if s is not None)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _tell_log(planned: Plan) -> None:
    for line in as_text(planned):
        _log.info("reload plan", step=line)


def _result(planned: Plan) -> str:
    if planned.changes_nothing:
        return "nothing changed"
    fates = [worker.fate for worker in planned.workers]
    counted = [f"{fates.count(fate)} {fate}" for fate in Fate if fate in fates]
    parts = [f"workers: {', '.join(counted)}"] if counted else []
    if planned.in_place:
        parts.append(f"in place: {_listed(planned.in_place)}")
    if planned.by_restart:
        parts.append(f"not before a restart: {_listed(planned.by_restart)}")
    return "; ".join(parts)
