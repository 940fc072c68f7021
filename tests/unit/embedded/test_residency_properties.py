"""What holds for the residency machine whatever happens in whatever order."""

from __future__ import annotations

import math
from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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
    State,
    Unload,
    Variant,
)

MAX_LOADED = 2
MAX_QUEUE = 4
MEMORY = 95
NEED = {"a": 30, "b": 40, "c": 60, "huge": 101}


class ResidencyMachine(RuleBasedStateMachine):
    """Drives the machine as the shell does and keeps its own books."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Residency(
            max_loaded=MAX_LOADED, max_queue=MAX_QUEUE, memory_bytes=MEMORY, keep_alive_s=10.0
        )
        self.now = 0.0
        self.asks: dict[AskId, Ask] = {}
        self.granted: dict[AskId, Incarnation] = {}
        self.loading: dict[Incarnation, Variant] = {}
        self.ready: dict[Incarnation, Variant] = {}
        self.ending: set[Incarnation] = set()
        self.finished: set[AskId] = set()

    def apply(self, effects: Iterable[Effect]) -> None:
        """Keep the books of what the machine wants done."""
        for effect in effects:
            match effect:
                case Grant(ask, incarnation):
                    assert ask not in self.granted
                    assert ask not in self.finished
                    assert self.ready[incarnation] == self.asks[ask].variant
                    older = [i for i in self.open_asks() if i < ask]
                    assert all(self.asks[i].variant != self.asks[ask].variant for i in older)
                    self.granted[ask] = incarnation
                case Refuse(ask):
                    assert ask not in self.granted
                    self.finished.add(ask)
                case Load(incarnation, _, variant):
                    assert not self.loading
                    assert not self.ending
                    self.loading[incarnation] = variant
                case Unload(incarnation):
                    assert incarnation not in self.granted.values()
                    del (self.loading if incarnation in self.loading else self.ready)[incarnation]
                    self.ending.add(incarnation)

    def open_asks(self) -> list[AskId]:
        """Return those that still wait, by the books."""
        return [i for i in self.asks if i not in self.finished and i not in self.granted]

    @rule(
        model=st.sampled_from(sorted(NEED)),
        context=st.sampled_from([8, 16]),
        keep=st.sampled_from([None, 0.0, 5.0, math.inf]),
    )
    def arrive(self, model: str, context: int, keep: float | None) -> None:
        """A request comes."""
        ask = Ask(
            id=AskId(len(self.asks)),
            model=model,
            variant=Variant(model, "w", context),
            slots=2,
            need_bytes=NEED[model],
            keep_alive_s=keep,
        )
        waiting = len(self.open_asks())
        self.asks[ask.id] = ask
        effects = self.core.arrived(ask, self.now)
        if Refuse(ask.id, Reason.QUEUE_FULL) in effects:
            assert waiting == MAX_QUEUE
        self.apply(effects)

    @precondition(lambda self: self.asks)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A request ends, or its client goes; also twice."""
        ask = data.draw(st.sampled_from(sorted(self.asks)))
        self.granted.pop(ask, None)
        self.finished.add(ask)
        self.apply(self.core.left(ask, self.now))

    @precondition(lambda self: self.loading)
    @rule(works=st.booleans())
    def load_ends(self, works: bool) -> None:  # noqa: FBT001 -- hypothesis gives it by name
        """The one runner that loads is ready, or is not to be."""
        ((incarnation, variant),) = self.loading.items()
        self.loading.clear()
        if works:
            self.ready[incarnation] = variant
            self.apply(self.core.loaded(incarnation, NEED[variant.weights], self.now))
        else:
            self.apply(self.core.load_failed(incarnation, "broken", self.now))

    @precondition(lambda self: self.ending)
    @rule()
    def runner_ends(self) -> None:
        """A runner that was told to go is gone."""
        self.apply(self.core.gone(self.ending.pop(), self.now))

    @precondition(lambda self: self.ready)
    @rule(data=st.data())
    def runner_dies(self, data: st.DataObject) -> None:
        """A runner goes without being told; its requests have still to leave."""
        incarnation = data.draw(st.sampled_from(sorted(self.ready)))
        del self.ready[incarnation]
        self.finished |= {ask for ask, held in self.granted.items() if held == incarnation}
        self.granted = {ask: held for ask, held in self.granted.items() if held != incarnation}
        self.apply(self.core.gone(incarnation, self.now))

    @rule(seconds=st.sampled_from([0.5, 6.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        """The deadline, if there is one by then, is due."""
        self.now += seconds
        deadline = self.core.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.apply(self.core.tick(self.now))
            left = self.core.next_deadline()
            assert left is None or left > self.now

    @invariant()
    def a_load_is_waited_for(self) -> None:
        """Nobody else would end one that stands still."""
        wanted = {self.asks[ask].variant for ask in self.open_asks()}
        assert wanted.issuperset(self.loading.values())

    @rule(model=st.sampled_from(sorted(NEED)))
    def unload(self, model: str) -> None:
        """Somebody wants a model gone."""
        self.apply(self.core.unload(model, model, self.now))

    @invariant()
    def limits_hold(self) -> None:
        """Slots, loaded models, memory and queue are never more than they may be."""
        residents = self.core.residents
        assert len(residents) <= MAX_LOADED
        assert sum(r.size_bytes for r in residents) <= MEMORY
        assert all(len(r.busy) <= r.slots for r in residents)
        assert len(self.core.waiting) <= MAX_QUEUE

    @invariant()
    def books_agree(self) -> None:
        """The machine knows exactly the leases and the waiting that the shell knows."""
        assert [ask.id for ask in self.core.waiting] == self.open_asks()
        assert {ask for r in self.core.residents for ask in r.busy} == set(self.granted)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """Who waits, waits for a slot in use, for a load, or for a runner's end."""
        if self.core.waiting:
            moving = any(r.state is not State.READY for r in self.core.residents)
            assert moving or self.granted

    def teardown(self) -> None:
        """When all leave in turn, all who wait are answered, and nothing stays busy."""
        for _ in range(20 * (len(self.asks) + 1)):
            self._step()
        assert not self.core.waiting
        assert not any(r.busy for r in self.core.residents)

    def _step(self) -> None:
        if self.loading:
            ((incarnation, variant),) = self.loading.items()
            self.loading.clear()
            self.ready[incarnation] = variant
            self.apply(self.core.loaded(incarnation, NEED[variant.weights], self.now))
        elif self.ending:
            self.apply(self.core.gone(self.ending.pop(), self.now))
        elif self.granted:
            ask = min(self.granted)
            del self.granted[ask]
            self.finished.add(ask)
            self.apply(self.core.left(ask, self.now))


ResidencyMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestResidency = ResidencyMachine.TestCase
