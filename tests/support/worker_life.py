"""The promises of the worker state machine as a hypothesis machine over any module that claims to keep them.

The module is an argument, so that the same promises are checked on the real one and on copies with
seeded faults. What the machine should do is remembered here in its own words, not read back from it.
"""

from __future__ import annotations

from random import Random
from types import ModuleType
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from supervisor.contract.fleet import WorkerState
from supervisor.core import worker as real
from supervisor.core.backoff import RestartPolicy

POLICY = RestartPolicy(quarantine_crashes=3, quarantine_window_s=200.0)
WAITING = (WorkerState.BACKOFF, WorkerState.QUARANTINED)


class WorkerLife(RuleBasedStateMachine):
    """A worker among people who start and stop it, probes, crashes and time."""

    module: ClassVar[Any] = real

    def __init__(self) -> None:
        super().__init__()
        m = self.module
        self.machine = m.WorkerMachine(POLICY, m.Timings(), Random(1))
        self.now = 0.0
        self.alive = False
        self.wanted = False
        self.asked = False
        self.terminated = False
        self.ready_since: float | None = None
        self.crashes: list[float] = []
        self.probation = False
        self.failed_probes = 0
        self.sentenced: bool | None = None
        """To quarantine or not; None while the process is not condemned."""
        self.held = False

    def feed(self, event: object) -> list[Any]:
        """Hand the event over and hold every effect against what may be done now."""
        state = self.machine.state
        effects: list[Any] = self.machine.handle(event, self.now)
        for effect in effects:
            state = self._check(effect, state)
        assert state is self.machine.state, "a move was not announced"
        return effects

    def _check(self, effect: Any, state: WorkerState) -> WorkerState:
        m = self.module
        match effect:
            case m.Announce():
                assert effect.old is state, "announced from another state"
                assert effect.reason, "a move without a reason"
                return WorkerState(effect.new)
            case m.Spawn():
                assert not self.alive, "two processes on one device"
                assert self.wanted, "spawned what nobody wants"
                assert not self.held, "a quarantine ends by pardon or by an operator's start alone"
                self.alive, self.asked, self.terminated, self.failed_probes = True, False, False, 0
                self.sentenced = None
            case m.Terminate():
                assert self.alive, "SIGTERM to nobody"
                assert not self.terminated, "SIGTERM twice"
                self.terminated = True
            case m.Kill():
                assert self.alive, "SIGKILL to nobody"
                assert self.terminated, "SIGKILL without SIGTERM"
        return state

    @rule(share=st.sampled_from([0.5, 1.0, 1.5]))
    def time_passes(self, share: float) -> None:
        """Time passes: half the way to the deadline, exactly to it, or beyond it."""
        wait = 10.0 if self.machine.deadline is None else max(0.0, self.machine.deadline - self.now)
        self.now += wait * share
        self._pass_deadline()

    def _pass_deadline(self) -> None:
        before, state = self.machine.deadline, self.machine.state
        if before is None or before > self.now:
            return
        if state is WorkerState.QUARANTINED:
            self.probation = True
        if state is WorkerState.READY:
            self._forgive()
        effects = self.feed(self.module.DeadlinePassed())
        after = self.machine.deadline
        assert after is None or after > before, "the deadline did not move: the shell would spin"
        if state is WorkerState.STOPPING:
            assert self.module.Kill() in effects, "a worker that ignores SIGTERM must be killed"
        if state in WAITING:
            assert self.module.Spawn() in effects, "a wait must end in a start"
        if state in (WorkerState.STARTING, WorkerState.DRAINING):
            assert self.module.Terminate() in effects, "too slow, and nobody ends it"

    def _forgive(self) -> None:
        assert self.ready_since is not None
        assert self.now - self.ready_since >= POLICY.stable_after_s - 1e-6, "forgiven too early"
        self.crashes, self.probation = [], False

    @rule(ok=st.booleans())
    def probe(self, *, ok: bool) -> None:
        """A probe comes back, maybe one that was sent long ago."""
        state = self.machine.state
        self.feed(self.module.Probed(ok))
        if state is WorkerState.STARTING and ok:
            assert self.machine.state is WorkerState.READY, "an answered probe makes it ready"
            self.ready_since = self.now
        if state is WorkerState.READY:
            self.failed_probes = 0 if ok else self.failed_probes + 1
            gone = self.machine.state is WorkerState.STOPPING
            assert gone == (self.failed_probes >= self.machine.timings.probe_failures)

    @precondition(lambda self: self.alive)
    @rule(code=st.sampled_from([0, 1, -9]))
    def exits(self, code: int) -> None:
        """The process ends, asked or not."""
        self.alive = False
        crash = self.wanted and not self.asked
        effects = self.feed(self.module.Exited(code))
        if not self.wanted:
            assert self.machine.state is WorkerState.STOPPED
        elif self.sentenced:
            assert self.machine.state is WorkerState.QUARANTINED, "a lost GPU is not tried again"
            self.held = True
        elif not crash:
            assert self.module.Spawn() in effects, "an asked restart waits for nothing"
        else:
            self._crashed()

    def _crashed(self) -> None:
        window = POLICY.quarantine_window_s
        self.crashes = [crash for crash in self.crashes if self.now - crash <= window] + [self.now]
        loop = self.probation or len(self.crashes) >= POLICY.quarantine_crashes
        expected = WorkerState.QUARANTINED if loop else WorkerState.BACKOFF
        assert self.machine.state is expected, (self.machine.state, self.crashes)
        delay = self.machine.deadline - self.now
        if not loop:
            base = POLICY.first_delay_s * 2 ** (len(self.crashes) - 1)
            assert abs(delay - base) <= base * POLICY.jitter + 1e-6

    @precondition(lambda self: self.machine.state is WorkerState.STARTING)
    @rule(failed_probes=st.integers(0, 2))
    def gets_ready(self, failed_probes: int) -> None:
        """The start goes well; some probes fail later, as many as are forgiven."""
        self.probe(ok=True)
        for _ in range(failed_probes):
            self.probe(ok=False)

    @precondition(lambda self: self.alive)
    @rule(times=st.integers(1, 4), hang=st.booleans())
    def crashes_again_and_again(self, times: int, *, hang: bool) -> None:
        """It dies, with or without hanging first, and comes back when its wait is over."""
        for _ in range(times):
            if hang:
                self.time_passes(1.0)
            if self.alive:
                self.exits(1)
            if self.machine.state in WAITING:
                self.time_passes(1.0)

    @precondition(lambda self: self.machine.state is WorkerState.READY)
    @rule(again=st.booleans())
    def drains(self, *, again: bool) -> None:
        """Its requests may end, however often that is asked for."""
        self.stop(drain=True)
        if again:
            self.stop(drain=True)

    @precondition(lambda self: self.machine.state is WorkerState.READY)
    @rule(crashes=st.booleans())
    def drains_and_serves_on(self, *, crashes: bool) -> None:
        """Somebody has second thoughts; what happens then is as if there had been no drain."""
        self.stop(drain=True)
        self.cancel_drain()
        if crashes:
            self.exits(1)

    @precondition(lambda self: not self.alive or not self.wanted)
    @rule()
    def start(self) -> None:
        """Somebody asks for a start."""
        self.wanted = True
        if not self.alive:
            self.crashes, self.probation, self.held = [], False, False
        self.feed(self.module.StartRequested())
        assert self.alive, "a start that starts nothing"

    @rule(quarantine=st.booleans())
    def condemn(self, *, quarantine: bool) -> None:
        """What it computes on fails."""
        was = self.machine.state
        self.feed(self.module.Condemned("lost", quarantine=quarantine))
        if self.alive:
            assert self.machine.state is WorkerState.STOPPING, "condemned and not ended"
            self.sentenced = quarantine or bool(self.sentenced)
        elif quarantine and was in WAITING:
            assert self.machine.state is WorkerState.QUARANTINED
            self.held = True

    @precondition(lambda self: self.held or self.sentenced)
    @rule()
    def pardon(self) -> None:
        """What it was condemned for is over."""
        held, self.held = self.held, False
        if held:
            self.probation = True
        self.feed(self.module.Pardoned())
        if held:
            assert self.alive, "a pardon that starts nothing"
        elif self.sentenced:
            self.sentenced = False

    @rule(drain=st.booleans())
    def stop(self, *, drain: bool) -> None:
        """Somebody asks for a stop."""
        self.held = False
        self.wanted, self.asked = False, self.alive
        before = self.machine.deadline
        was = self.machine.state
        self.feed(self.module.StopRequested(drain=drain))
        if was in (WorkerState.READY, WorkerState.DRAINING) and drain:
            assert self.machine.state is WorkerState.DRAINING, "told to drain"
        if self.alive and not drain:
            assert self.machine.state is WorkerState.STOPPING, "told to stop without drain"
        if was is self.machine.state:
            assert self.machine.deadline == before, "asking twice must not postpone the end"

    @rule()
    def cancel_drain(self) -> None:
        """Somebody wants it to serve on."""
        was = self.machine.state
        self.feed(self.module.DrainCancelled())
        if was is WorkerState.DRAINING:
            assert self.machine.state is WorkerState.READY, "it need not end any more"
            self.wanted, self.asked, self.ready_since = True, False, self.now
        else:
            assert self.machine.state is was

    @rule()
    def idle(self) -> None:
        """The last request of the worker has ended."""
        was = self.machine.state
        self.feed(self.module.Idle())
        if was is WorkerState.DRAINING:
            assert self.machine.state is WorkerState.STOPPING

    @invariant()
    def process_exists_as_the_state_says(self) -> None:
        """Alive states have a process, the others none."""
        assert self.alive == (self.machine.state in self.module.ALIVE)

    @invariant()
    def nothing_waits_for_ever(self) -> None:
        """Only a stopped or a blameless ready worker has no deadline."""
        blameless = self.machine.state is WorkerState.READY and not (self.crashes or self.probation)
        rests = blameless or self.held or self.machine.state is WorkerState.STOPPED
        assert (self.machine.deadline is None) == rests, (self.machine.state, self.machine.deadline)

    @invariant()
    def wishes_are_kept(self) -> None:
        """The machine wants what was asked last; what waits is wanted, what is stopped is not."""
        assert self.machine.wanted == self.wanted
        if self.machine.state in WAITING:
            assert self.wanted
        if self.machine.state is WorkerState.STOPPED:
            assert not self.wanted

    @invariant()
    def sigterm_and_stopping_are_one(self) -> None:
        """A living process has got SIGTERM exactly when it is STOPPING."""
        assert (self.alive and self.terminated) == (self.machine.state is WorkerState.STOPPING)


def life_of(module: ModuleType) -> type[WorkerLife]:
    """Return the promises, to be checked on `module`."""
    return type("SeededWorkerLife", (WorkerLife,), {"module": module})
