"""Whatever happens to an external worker, and in whatever order: the promises of its health."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.external.health import (
    USUAL,
    Announce,
    Answered,
    DeadlinePassed,
    Event,
    Failed,
    Health,
    Looked,
    Probe,
    RequestFailed,
    step,
)
from supervisor.contract.fleet import WorkerState

ANSWERS = st.sampled_from(
    [Answered("1"), Answered("2"), Failed("refused", silent=False), Failed("silent", silent=True)]
)
OTHERS = st.sampled_from([RequestFailed(), Looked(), DeadlinePassed()])
SECONDS = st.sampled_from([0.0, 0.3, 1.0, 7.0, 40.0])


@given(st.lists(st.tuples(SECONDS, ANSWERS | OTHERS), max_size=60))
def test_one_question_at_a_time_and_never_none_for_ever(events: list[tuple[float, Event]]) -> None:
    """An answer comes only to a question; a worker without one under way has a moment for the next.

    Its incarnation never falls, rises only when it becomes ready, and every change of what the fleet
    sees is announced.
    """
    health, now, asked = Health(), 0.0, False
    for seconds, event in events:
        now += seconds
        if isinstance(event, Answered | Failed) and not asked:
            continue
        before, (health, effects) = health, step(health, event, now, USUAL)
        asked = asked and not isinstance(event, Answered | Failed)
        assert effects.count(Probe()) <= (0 if asked else 1)
        asked = asked or Probe() in effects
        assert asked == (health.due is None)
        assert health.incarnation - before.incarnation in (0, 1)
        if health.incarnation > before.incarnation:
            assert health.state is WorkerState.READY
        seen = (before.state, before.incarnation, before.reason)
        assert (seen != (health.state, health.incarnation, health.reason)) == (Announce() in effects)


@given(st.lists(st.tuples(SECONDS, OTHERS), max_size=20))
def test_a_question_goes_out_once_its_moment_has_come(events: list[tuple[float, Event]]) -> None:
    """Whatever came before, the next deadline after it asks."""
    health, now = step(Health(), DeadlinePassed(), 0.0, USUAL)[0], 0.0
    health = step(health, Answered("1"), now, USUAL)[0]
    for seconds, event in events:
        now += seconds
        health, effects = step(health, event, now, USUAL)
        if Probe() in effects:
            health = step(health, Answered("1"), now, USUAL)[0]
    assert health.due is not None
    assert step(health, DeadlinePassed(), health.due, USUAL)[1] == (Probe(),)
