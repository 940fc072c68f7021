"""Looks after the workers: keeps their circuits, asks those that are silent, has those that hang ended.

The shell of `breaker.py`, which decides. One task a worker, which sleeps until the worker has been silent for
`gateway.probe_interval`, or until its circuit wants to know; `asking.py` asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, assert_never

import structlog

from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import instance_of
from gateway.health.asking import Asker
from gateway.health.breaker import (
    Answered,
    Ask,
    Breaker,
    Circuit,
    Condemn,
    DeadlinePassed,
    Event,
    Failed,
    QuestionFailed,
    Suspected,
    left_out,
    step,
)
from gateway.health.signs import Alive, Ill, NotNow, Sign, Silent
from gateway.relay.outcome import Blame, Outcome, describe, rule_of
from gateway.relay.patience import Expected, first_byte_s
from gateway.relay.upstream import Pulse, Upstream
from gateway.runtime import Runtime
from gateway.scheduling import types
from gateway.scheduling.names import Instance, Variant
from supervisor.contract.config import GatewayConfig
from supervisor.contract.fleet import DeviceKind, WorkerStatus
from supervisor.contract.reports import Hung

_log = structlog.get_logger("health")

_LOAD_TIMEOUTS: Final = 2
"""Loads in a row that came to no end within `gateway.load_timeout`: then loads hang there for ever."""
_ASK_AFTER_S: Final = 2.0
"""A worker that owes somebody a first byte and sent nothing for so long is asked whether its server lives.

That costs it nothing, and one that only reads a long prompt says so at once."""


@dataclass(slots=True)
class _Ward:
    """One process that is looked after."""

    breaker: Breaker
    pulse: Pulse
    task: asyncio.Task[None] | None = None
    nudged: asyncio.Event = field(default_factory=asyncio.Event)
    """Something became due sooner."""
    is_to_ask: bool = False
    """Its circuit wants to know."""
    load_timeouts: int = 0
    alarm: asyncio.TimerHandle | None = None
    """When those who wait for a first byte may have waited for long enough."""

    def ask_soon(self) -> None:
        """Look again then."""
        if self.alarm is None:
            self.alarm = asyncio.get_running_loop().call_later(_ASK_AFTER_S, self._look_again)

    def _look_again(self) -> None:
        self.alarm = None
        if self.pulse.waits:
            self.nudged.set()


class Health:
    """All workers that are ready."""

    def __init__(
        self,
        fleet: Fleet,
        runtime: Runtime,
        upstream: Upstream,
        settings: GatewayConfig,
        tell: Callable[[Hung], None],
    ) -> None:
        """Nobody is asked before `running` is entered; `tell` reaches the supervisor."""
        self._fleet = fleet
        self._runtime = runtime
        self._settings = settings
        self._asker = Asker(fleet, runtime, upstream, settings)
        self._tell = tell
        self._wards: dict[Instance, _Ward] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look after the workers as long as the block lasts."""
        before = self._runtime.on_event

        def saw(event: types.Event) -> None:
            before(event)
            self._saw(event)

        self._runtime.on_event = saw
        self._fleet.moves.on_timeout = self._load_timed_out
        self._sync()
        try:
            yield
        finally:
            tasks = [ward.task for ward in self._wards.values() if ward.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def use(self, settings: GatewayConfig) -> None:
        """Go by these times from now on."""
        self._settings = self._asker.settings = settings
        for ward in self._wards.values():
            ward.nudged.set()

    # What requests tell ---------------------------------------------------------------

    def pulse_of(self, instance: Instance) -> Pulse:
        """Return where signs of life of the worker are noted."""
        ward = self._wards.get(instance)
        return Pulse() if ward is None else ward.pulse

    def answered(self, instance: Instance) -> None:
        """A request was answered there."""
        ward = self._wards.get(instance)
        if ward is not None and ward.breaker != _WELL:
            self._feed(instance, ward, Answered())

    def failed(self, instance: Instance, outcome: Outcome) -> None:
        """A request failed there."""
        ward, why = self._wards.get(instance), describe(outcome)
        if ward is None:
            return
        match rule_of(outcome).blame:
            case Blame.NONE:
                pass
            case Blame.FAILURE:
                self._feed(instance, ward, Failed(why))
            case Blame.SUSPICION:
                self._feed(instance, ward, Suspected(why))

    def patience_s(self, instance: Instance, variant: Variant, *, prompt_tokens: int, stream: bool) -> float:
        """Return how long the first byte of an answer is waited for before the worker is suspected."""
        worker = self._asker.residency(instance)
        learned = self._runtime.scheduler.estimates.of(variant)
        device = "" if worker is None else worker.view.device
        busy = 1 if worker is None else worker.busy
        expected = Expected(
            prompt_tokens=prompt_tokens,
            tokens_per_s=learned.measured_prefill(device),
            busy=busy,
            load_s=self._hidden_load_s(instance, variant),
            answer_s=0.0 if stream else learned.service_s(device) * busy,
        )
        least_s = self._settings.first_byte_timeout
        return first_byte_s(
            expected, least_s=least_s if stream else max(least_s, self._settings.idle_timeout)
        )

    def _hidden_load_s(self, instance: Instance, variant: Variant) -> float:
        """Somebody else's worker may have given the model up unseen, and loads it for the request."""
        status = self._fleet.roster.status(instance)
        if status is None or not _is_external(status):
            return 0.0
        return self._asker.load_s(instance, variant)

    # Who is looked after --------------------------------------------------------------

    def _saw(self, event: types.Event) -> None:
        if isinstance(event, types.FleetChanged):
            # not within the event: what follows may be another one
            asyncio.get_running_loop().call_soon(self._sync)
        elif isinstance(event, types.Loaded) and event.instance in self._wards:
            self._wards[event.instance].load_timeouts = 0
            self._wards[event.instance].pulse.at = asyncio.get_running_loop().time()

    def _sync(self) -> None:
        living = {instance_of(status) for status in self._fleet.roster.ready()}
        for instance in [i for i in self._wards if i not in living]:
            task = self._wards.pop(instance).task
            if task is not None:
                task.cancel()
        loop = asyncio.get_running_loop()
        for instance in living - self._wards.keys():
            ward = self._wards[instance] = _Ward(Breaker(), Pulse(loop.time()))
            ward.pulse.on_wait = ward.ask_soon
            ward.task = loop.create_task(self._look_after(instance, ward))
        self._settle()

    async def _look_after(self, instance: Instance, ward: _Ward) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while (due := self._due(ward)) > loop.time():
                ward.nudged.clear()
                try:
                    async with asyncio.timeout_at(due):
                        await ward.nudged.wait()
                except TimeoutError:
                    pass
            if ward.breaker.circuit is Circuit.CLOSED:
                await self._round(instance, ward)
            else:
                self._feed(instance, ward, DeadlinePassed())
            if ward.is_to_ask:
                ward.is_to_ask = False
                self._judge(instance, ward, await self._ask(instance, suspected=True))

    def _due(self, ward: _Ward) -> float:
        if ward.breaker.circuit is Circuit.CLOSED:
            due, since = ward.pulse.at + self._settings.probe_interval, ward.pulse.silent_since
            return due if since is None else min(due, since + _ASK_AFTER_S)
        return ward.breaker.due if ward.breaker.due is not None else 0.0

    async def _round(self, instance: Instance, ward: _Ward) -> None:
        """Ask a worker that has been silent, and leave it alone for a while if there is nothing to say.

        Where its server is silent too, nobody goes on waiting for it to begin an answer.
        """
        now = asyncio.get_running_loop().time
        usual = now() >= ward.pulse.at + self._settings.probe_interval
        sign = await self._ask(instance, suspected=False)
        ward.pulse.at = now()
        match sign:
            case Alive() | NotNow():
                pass
            case Silent():
                # no sooner a verdict than before: who is asked so soon is asked once more
                self._feed(instance, ward, Suspected(sign.why, silent=usual))
                ward.pulse.give_up(now())
            case Ill():
                self._feed(instance, ward, Failed(sign.why))
            case _:
                assert_never(sign)

    async def _ask(self, instance: Instance, *, suspected: bool) -> Sign:
        sign = await self._asker.ask(instance, suspected=suspected)
        _log.debug("worker asked", worker=str(instance), sign=str(sign))
        return sign

    def _judge(self, instance: Instance, ward: _Ward, sign: Sign) -> None:
        """Take the answer to the question of a half open circuit."""
        match sign:
            case Alive():
                self._feed(instance, ward, Answered())
            case NotNow():
                self._feed(instance, ward, QuestionFailed(ward.breaker.why, silent=False))
            case Silent() | Ill():
                self._feed(instance, ward, QuestionFailed(sign.why, silent=isinstance(sign, Silent)))
            case _:
                assert_never(sign)

    # One event ------------------------------------------------------------------------

    def _feed(self, instance: Instance, ward: _Ward, event: Event) -> None:
        before, now = ward.breaker, asyncio.get_running_loop().time()
        ward.breaker, effects = step(before, event, now)
        ward.nudged.set()
        if (before.circuit is Circuit.CLOSED) is not (ward.breaker.circuit is Circuit.CLOSED):
            self._tell_of(instance, ward.breaker)
            self._settle()
        for effect in effects:
            match effect:
                case Ask():
                    ward.is_to_ask = True
                case Condemn():
                    self._condemn(instance, effect.why)
                case _:
                    assert_never(effect)

    def _tell_of(self, instance: Instance, breaker: Breaker) -> None:
        if breaker.circuit is Circuit.CLOSED:
            _log.info("worker is back", worker=str(instance))
        else:
            _log.warning("worker left out", worker=str(instance), why=breaker.why)

    def _settle(self) -> None:
        """Tell the fleet who gets no requests."""
        opened = {i for i, ward in self._wards.items() if ward.breaker.circuit is not Circuit.CLOSED}
        out = left_out(opened, self._groups() if opened else ())
        if opened and out != opened:
            _log.warning("most workers fail, so none is left out", workers=sorted(map(str, opened - out)))
        self._fleet.leave_out({instance: self._wards[instance].breaker.why for instance in sorted(out)})

    def _groups(self) -> list[set[Instance]]:
        """Return for each model the workers that could serve it."""
        roster = self._fleet.roster
        able: dict[Variant, set[Instance]] = {}
        for status in roster.ready():
            for row in roster.allowed_rows(status).values():
                able.setdefault(row.variant, set()).add(instance_of(status))
        return list(able.values())

    def _condemn(self, instance: Instance, why: str) -> None:
        status = self._fleet.roster.status(instance)
        if status is None or _is_external(status):
            return  # somebody else's is left out until it answers
        _log.error("worker hangs", worker=str(instance), why=why)
        self._tell(Hung(worker=instance.worker, incarnation=instance.incarnation, why=why))

    def _load_timed_out(self, instance: Instance, why: str) -> None:
        ward = self._wards.get(instance)
        if ward is None:
            return
        ward.load_timeouts += 1
        if ward.load_timeouts >= _LOAD_TIMEOUTS:
            self._condemn(instance, f"{ward.load_timeouts} loads in a row came to no end, the last: {why}")


_WELL: Final = Breaker()


def _is_external(status: WorkerStatus) -> bool:
    return any(device.kind is DeviceKind.REMOTE for device in status.devices)
