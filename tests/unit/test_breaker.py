from __future__ import annotations

from itertools import product

import pytest

from gateway.health.breaker import (
    EVENTS,
    FIRST_WAIT_S,
    IGNORED,
    MAX_WAIT_S,
    SILENCES,
    TABLE,
    TRIPS_AT,
    Answered,
    Ask,
    Breaker,
    Circuit,
    Condemn,
    DeadlinePassed,
    Effect,
    Event,
    Failed,
    QuestionFailed,
    Suspected,
    left_out,
    step,
)
from gateway.scheduling.names import Instance

A, B, C, D = (Instance(name, 1) for name in "abcd")


def after(*events: Event, breaker: Breaker | None = None) -> tuple[Breaker, list[Effect]]:
    """Feed a breaker; each deadline passes exactly when it is due."""
    breaker, now = breaker or Breaker(), 0.0
    effects: list[Effect] = []
    for event in events:
        if isinstance(event, DeadlinePassed) and breaker.due is not None:
            now = max(now, breaker.due)
        breaker, done = step(breaker, event, now)
        effects += done
    return breaker, effects


SILENT = QuestionFailed("no token", silent=True)


def test_every_circuit_has_an_answer_to_every_event() -> None:
    """TABLE and IGNORED name each pair exactly once."""
    assert set(TABLE) | IGNORED == set(product(Circuit, EVENTS))
    assert not set(TABLE) & IGNORED


def test_failures_in_a_row_open_it_and_an_answer_between_them_forgives() -> None:
    """One bad request among good ones says nothing of the worker."""
    fails = [Failed("reset")] * TRIPS_AT
    assert after(*fails)[0].circuit is Circuit.OPEN
    assert after(*fails[1:], Answered(), *fails[1:])[0].circuit is Circuit.CLOSED


def test_a_suspicion_opens_it_and_has_the_worker_asked_at_once() -> None:
    """Whoever may hang gets no further requests while that is found out."""
    opened, _ = after(Suspected("no first byte within 60 s"))
    assert (opened.circuit, opened.due) == (Circuit.OPEN, 0.0)
    asked, effects = after(DeadlinePassed(), breaker=opened)
    assert (asked.circuit, effects) == (Circuit.HALF_OPEN, [Ask()])


@pytest.mark.parametrize("events", [(), (DeadlinePassed(),), (DeadlinePassed(), SILENT, DeadlinePassed())])
def test_an_answer_closes_it_whenever_it_comes(events: tuple[Event, ...]) -> None:
    """Also that to a request from before."""
    assert after(Suspected("?"), *events, Answered())[0] == Breaker()


def test_silence_in_a_row_is_a_verdict_and_noise_is_none() -> None:
    """A worker that answers badly is left out; only one that does not answer at all hangs."""
    silent: list[Event] = [DeadlinePassed(), SILENT] * SILENCES
    assert after(Suspected("?"), *silent)[1].count(Condemn("no token")) == 1
    assert after(Suspected("?", silent=True), *silent[:2])[1][-1] == Condemn("no token")
    noise = [DeadlinePassed(), QuestionFailed("500", silent=False), *silent[:2]] * 3
    assert not [effect for effect in after(Suspected("?"), *noise)[1] if isinstance(effect, Condemn)]


def test_the_waits_between_questions_grow_and_are_bounded() -> None:
    """It is asked for ever, ever more seldom."""
    breaker, waits, now = after(Suspected("?"))[0], [], 0.0
    for _ in range(10):
        breaker, _ = step(breaker, DeadlinePassed(), now)
        breaker, _ = step(breaker, QuestionFailed("500", silent=False), now)
        assert breaker.due is not None
        waits.append(breaker.due - now)
        now = breaker.due
    assert waits[:3] == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S]
    assert waits[-1] == MAX_WAIT_S


def test_half_of_those_that_could_serve_may_be_left_out_but_not_more() -> None:
    """When most of them fail it is probably something else, and shutting all out serves nobody."""
    assert left_out({A}, [{A, B}]) == {A}
    assert left_out({A, B}, [{A, B, C, D}]) == {A, B}
    assert left_out({A, B, C}, [{A, B, C, D}]) == frozenset()
    assert left_out({A}, [{A}]) == frozenset()


def test_the_panic_rule_looks_at_each_model_alone() -> None:
    """The only worker of one model goes on, though others could serve the other models."""
    assert left_out({A, B}, [{A, B, C, D}, {A}]) == {B}
