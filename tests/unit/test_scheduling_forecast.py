"""Where those who wait stand, and when they may begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.scheduling.forecast import Awaiting, Forecast
from gateway.scheduling.names import RequestId
from tests.support.scheduler_stage import W0, A, B, Stage, view


def of(stage: Stage, request: RequestId) -> Forecast:
    """What is expected of a request that waits."""
    found: Forecast | None = stage.scheduler.forecast(request, stage.now)
    assert found is not None
    return found


def places(stage: Stage, requests: Sequence[RequestId]) -> list[int]:
    """Their positions in line."""
    return [of(stage, request).position for request in requests]


def busy_stage() -> Stage:
    """One worker whose two slots of a model are taken; an answer of it takes ten seconds."""
    stage = Stage([view(W0)])
    teacher = stage.arrive(A)
    stage.later(10)
    stage.finish(teacher)
    stage.arrive(A)
    stage.later(4)
    stage.arrive(A)
    return stage


def test_who_has_a_slot_or_is_unknown_has_no_forecast() -> None:
    """There is nothing to expect."""
    stage = Stage([view(W0)])
    granted = stage.arrive(A)
    assert stage.scheduler.forecast(granted, stage.now) is None
    assert stage.scheduler.forecast(RequestId("nobody"), stage.now) is None


def test_the_next_in_line_begins_when_the_first_answer_is_expected_to_end() -> None:
    """And the one behind it when the second does; the third has to wait for one of theirs."""
    stage = busy_stage()
    first, second, third = (stage.arrive(A) for _ in range(3))
    assert places(stage, [first, second, third]) == [1, 2, 3]
    found = [of(stage, request) for request in (first, second, third)]
    assert [round(one.starts_in_s or 0.0, 6) for one in found] == [6.0, 10.0, 16.0]
    assert {(one.awaiting, one.queued) for one in found} == {(Awaiting.SLOT, 3)}


def test_an_answer_that_takes_longer_than_usual_may_end_at_any_moment() -> None:
    """No time is negative."""
    stage = busy_stage()
    stage.later(60)
    assert of(stage, stage.arrive(A)).starts_in_s == 0.0


def test_background_requests_stand_behind_those_that_somebody_looks_at() -> None:
    """Whoever came first."""
    stage = busy_stage()
    task = stage.arrive(A, background=True)
    person = stage.arrive(A)
    assert places(stage, [person, task]) == [1, 2]
    assert of(stage, task).background


def test_who_waits_for_a_load_is_told_where_it_goes_on() -> None:
    """And begins when the load is expected to be done."""
    stage = Stage([view(W0)], obeys=False)
    waiting = stage.arrive(A)
    found = of(stage, waiting)
    assert (found.awaiting, found.loading_on) == (Awaiting.LOAD, W0)
    assert found.starts_in_s is not None
    assert found.starts_in_s > 0


def test_who_waits_for_room_is_told_when_a_model_may_leave_and_the_load_be_done() -> None:
    """The worker's only place is taken by a model whose answers take ten seconds."""
    stage = busy_stage()
    found = of(stage, stage.arrive(B))
    assert found.awaiting is Awaiting.ROOM
    assert found.starts_in_s is not None
    assert found.starts_in_s > 10


def test_nothing_is_expected_while_no_worker_is_up() -> None:
    """A guess would be worth nothing."""
    stage = busy_stage()
    waiting = stage.arrive(A)
    stage.tell_fleet(replace(view(W0), ready=False))
    assert of(stage, waiting).starts_in_s is None


def test_all_who_wait_are_listed_model_by_model() -> None:
    """In the order of their turns."""
    stage = busy_stage()
    first, second, other = stage.arrive(A), stage.arrive(A), stage.arrive(B)
    listed = [(one.variant, one.request) for one in stage.scheduler.waiting(stage.now)]
    assert listed == [(A, first), (A, second), (B, other)]
