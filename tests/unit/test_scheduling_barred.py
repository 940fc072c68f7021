from __future__ import annotations

from dataclasses import replace

from gateway.scheduling.types import FleetChanged, Left, Loaded, LoadFailed, ReplicaBounds
from tests.support.scheduler_stage import W0, W1, W2, A, B, Stage, resident, view, without

NOT_W0 = frozenset({W0})
"""Barred from the first worker."""


def holding() -> Stage:
    """Return two workers, of which the first has the model."""
    stage = Stage([view(W0), view(W1)], knows_answers=True)
    stage.feed(Left(stage.arrive(A)))
    assert stage.loads() == [("w0", "a")]
    return stage


def test_the_model_is_loaded_where_the_request_can_be_served() -> None:
    """Though another worker has it, with slots free."""
    stage = holding()
    request = stage.arrive(A, barred=NOT_W0)
    assert stage.loads() == [("w0", "a"), ("w1", "a")]
    assert stage.where(request) == "w1"


def test_a_first_load_goes_where_the_request_can_be_served() -> None:
    """Though another worker would be as good."""
    stage = Stage([view(W0), view(W1)])
    assert stage.where(stage.arrive(A, barred=NOT_W0)) == "w1"
    assert stage.loads() == [("w1", "a")]


def test_it_waits_rather_than_be_served_where_it_cannot() -> None:
    """However many slots are free there."""
    stage = holding()
    stage.tell_fleet(stage.workers[0], without(stage.workers[1], B))
    busy = [stage.arrive(A, barred=NOT_W0) for _ in range(2)]
    request = stage.arrive(A, barred=NOT_W0)
    stage.later(400)
    assert stage.where(request) is None
    stage.finish(busy[0])
    assert stage.where(request) == "w1"


def test_it_holds_nobody_up() -> None:
    """Who comes later and can be served now is."""
    stage = Stage([view(W0), replace(view(W1), ready=False)], knows_answers=True)
    waits = stage.arrive(A, barred=NOT_W0)
    assert stage.loads() == []
    served = stage.arrive(A)
    assert (stage.where(waits), stage.where(served)) == (None, "w0")


def test_it_stands_in_line_as_anybody_else() -> None:
    """It came later, so it is served later, and nobody lets it go first."""
    stage = Stage([view(W1)], knows_answers=True)
    first, _ = stage.arrive(A), stage.arrive(A)
    waits = [stage.arrive(A), stage.arrive(A, barred=NOT_W0), stage.arrive(A)]
    for _ in waits:
        stage.finish(first)
        first = stage.grants()[-1]
    assert stage.grants()[2:] == waits


def test_it_counts_where_the_queue_is_full() -> None:
    """It is no request that comes back; and slots that are free elsewhere do not let it in."""
    stage = Stage([view(W0), replace(view(W1), ready=False)], knows_answers=True)
    stage.use(A)
    for _ in range(16):
        stage.arrive(A, barred=NOT_W0)
    assert stage.refusal(stage.arrive(A, barred=NOT_W0)) == "queue_full"
    assert stage.where(stage.arrive(A)) == "w0"


def test_it_counts_as_demand() -> None:
    """As any new request does."""
    stage = holding()
    before = stage.scheduler.estimates.of(A).rate(stage.now)
    stage.use(A, barred=NOT_W0)
    assert stage.scheduler.estimates.of(A).rate(stage.now) > before


def test_it_is_refused_where_no_worker_is_left() -> None:
    """At the door, and when the last one goes while it waits."""
    stage = Stage([view(W0), replace(view(W1), ready=False)])
    assert stage.refusal(stage.arrive(A, barred=frozenset({W0, W1}))) == "barred"
    request = stage.arrive(A, barred=NOT_W0)
    assert stage.refusal(request) is None
    stage.tell_fleet(stage.workers[0])
    assert stage.refusal(request) == "barred"


def test_its_queue_does_not_load_the_model_where_it_cannot_be_served() -> None:
    """Though it is long, and others wait for the model too."""
    stage = Stage([view(W0), view(W1), view(W2)], knows_answers=True)
    stage.arrive(A, barred=frozenset({W0, W2}))
    for _ in range(8):
        stage.arrive(A, barred=frozenset({W0, W2}))
    stage.later(200)
    assert stage.loads() == [("w1", "a")]


def test_a_load_elsewhere_is_not_taken_for_its_own() -> None:
    """The slots that come there are of no use to it."""
    stage = Stage([view(W0), view(W1)], obeys=False)
    stage.tell_fleet(without(stage.workers[0]), replace(stage.workers[1], ready=False))
    stage.arrive(A)
    stage.arrive(A, barred=NOT_W0)
    stage.tell_fleet(*[replace(worker, ready=True) for worker in stage.workers])
    assert sorted(stage.loads()) == [("w0", "a"), ("w1", "a")]


def test_a_plan_is_dropped_when_nobody_is_left_whom_it_would_serve() -> None:
    """Though somebody waits who is barred from there."""
    stage = Stage([view(W0), replace(view(W1), ready=False)], obeys=False, knows_answers=True)
    stage.arrive(B)
    stage.feed(Loaded(W0, B, resident(2)))
    stage.later(1000)
    request = stage.arrive(A)
    stage.later(400)
    stage.arrive(A, barred=NOT_W0)
    assert stage.scheduler.workers[0].coming == A
    stage.feed(Left(request))
    assert stage.scheduler.workers[0].coming is None


def test_it_hears_when_those_who_could_serve_it_cannot_load_the_model() -> None:
    """Though another worker has it."""
    stage = holding()
    stage.obeys = False
    request = stage.arrive(A, barred=NOT_W0)
    stage.feed(LoadFailed(W1, A, "no", lasting=True))
    assert stage.refusal(request) == "load_failed"


def test_it_hears_when_the_model_fits_none_of_those_who_could_serve_it() -> None:
    """Though it fits another."""
    stage = Stage([view(W0), view(W1, memory=3)])
    assert stage.refusal(stage.arrive(A, barred=NOT_W0)) == "no_memory"
    assert stage.where(stage.arrive(A)) == "w0"


def test_after_a_failure_it_goes_neither_back_nor_where_it_is_barred() -> None:
    """While another can have the model; else it goes back, and still not there."""
    stage = Stage([view(W0), view(W1), view(W2)], knows_answers=True)
    stage.use(A)
    stage.use(A, barred=NOT_W0)
    again = stage.arrive(A, barred=NOT_W0, avoid=frozenset({W1}))
    assert stage.where(again) == "w2"
    alone = Stage([view(W0), view(W1)], knows_answers=True)
    alone.use(A, barred=NOT_W0)
    assert alone.where(alone.arrive(A, barred=NOT_W0, avoid=frozenset({W1}))) == "w1"


def test_a_model_leaves_though_somebody_waits_whom_it_cannot_serve() -> None:
    """Its keep-alive is over, and it is of no use to that one."""
    workers = [replace(view(W0), keep_alive_s=5.0), replace(view(W1), ready=False)]
    stage = Stage(workers, knows_answers=True)
    stage.use(A)
    stage.arrive(A, barred=NOT_W0)
    stage.later(20)
    assert stage.unloads() == [("w0", "a")]


def test_bounds_of_the_operator_come_first() -> None:
    """On one worker means on one, though that is of no use to the request."""
    stage = Stage([view(W0), view(W1)], {A: ReplicaBounds(most=1)})
    stage.use(A)
    request = stage.arrive(A, barred=NOT_W0, deadline=stage.now + 5)
    assert stage.loads() == [("w0", "a")]
    stage.later(6)
    assert stage.refusal(request) == "deadline"


def test_what_is_told_of_its_wait_is_what_it_waits_for() -> None:
    """A load, though slots are free where it cannot be served."""
    stage = holding()
    stage.obeys = False
    request = stage.arrive(A, barred=NOT_W0)
    told = stage.scheduler.forecast(request, stage.now)
    assert (str(told.awaiting), told.loading_on) == ("its model to be loaded", W1)
    stage.feed(FleetChanged((stage.workers[0],)))
