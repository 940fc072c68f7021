from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from gateway.scheduling import scheduler
from gateway.scheduling.names import Instance, RequestId
from gateway.scheduling.types import (
    Event,
    Grant,
    Left,
    Load,
    Loaded,
    LoadFailed,
    Observed,
    Reject,
    RejectReason,
    ReplicaBounds,
    Unload,
    UnloadAsked,
    Unloaded,
)
from supervisor.contract.config import SchedulingConfig
from tests.support.scheduler_stage import W0, W1, W2, A, B, C, Stage, resident, view, without

DRAIN_AFTER = SchedulingConfig().drain_after


def test_first_request_loads_then_gets_its_slot() -> None:
    """Load comes before the grant, and both say why."""
    stage = Stage([view(W0)])
    stage.arrive(A)
    assert stage.kinds() == ["Load", "Grant"]
    assert all(effect.why for effect in stage.seen if isinstance(effect, Load | Grant))


def test_resident_worker_is_preferred_to_an_empty_one() -> None:
    """A second request goes where the model is, as long as a slot is free there."""
    stage = Stage([view(W0), view(W1)])
    stage.arrive(A)
    stage.arrive(A)
    assert stage.kinds() == ["Load", "Grant", "Grant"]


def test_waiting_requests_make_a_further_replica_on_a_free_worker() -> None:
    """When all slots of the first replica are taken, an empty worker loads the model too."""
    stage = Stage([view(W0), view(W1)], knows_answers=True)
    requests = [stage.arrive(A) for _ in range(3)]
    assert [stage.where(request) for request in requests] == ["w0", "w0", "w1"]


def test_burst_loads_as_many_replicas_as_it_needs_at_once() -> None:
    """Slots that are coming count: three requests of two-slot workers need two loads, two need one."""
    stage = Stage([view(W0), view(W1)], obeys=False, knows_answers=True)
    stage.arrive(A)
    stage.arrive(A)
    assert stage.kinds() == ["Load"]
    stage.arrive(A)
    assert stage.kinds() == ["Load", "Load"]


def test_further_replica_does_not_push_out_what_was_just_loaded() -> None:
    """It may take the place of an idle model only after that one's tenure, and is loaded then unasked."""
    stage = Stage([view(W0), view(W1)], knows_answers=True)
    stage.feed(Observed(W0, {B: resident(2)}))
    stage.feed(Observed(W1, {A: resident(2)}))
    busy = [stage.arrive(A) for _ in range(3)]
    stage.later(0.4)
    assert stage.where(busy[2]) is None
    stage.later(0.2)
    assert stage.where(busy[2]) == "w0"


def test_the_idle_model_that_is_asked_for_least_is_evicted() -> None:
    """Of two idle models of one size the one that is used less often makes room."""
    stage = Stage([view(W0, loaded=2)])
    for variant in (A, B, A):
        stage.use(variant)
        stage.now += 1
    stage.arrive(C)
    assert stage.unloads() == [("w0", "b")]


def test_memory_bounds_what_is_loaded_together() -> None:
    """Two models that do not fit together are not loaded together, whatever max_loaded_models says."""
    stage = Stage([view(W0, loaded=3, memory=7)])
    stage.use(A)
    stage.arrive(B)
    stage.later(1)
    assert stage.kinds()[-3:] == ["Unload", "Load", "Grant"]


def test_busy_model_is_drained_only_for_one_that_waited_too_long() -> None:
    """Then it gets no more requests, and is swapped when its last one ends."""
    stage = Stage([view(W0)])
    first = stage.arrive(A)
    wanted = stage.arrive(B)
    stage.later(DRAIN_AFTER - 1)
    second = stage.arrive(A)
    assert stage.where(second) == "w0"
    stage.later(1)
    third = stage.arrive(A)
    assert stage.where(third) is None
    for request in (first, second):
        stage.finish(request)
    assert stage.where(wanted) == "w0"


def test_drain_is_called_off_when_nobody_waits_for_it_any_more() -> None:
    """If the client whose model was to come leaves, the draining model takes requests again."""
    stage = Stage([view(W0)])
    stage.arrive(A)
    wanted = stage.arrive(B)
    stage.later(DRAIN_AFTER)
    blocked = stage.arrive(A)
    assert stage.where(blocked) is None
    stage.feed(Left(wanted))
    assert stage.where(blocked) == "w0"


def test_a_replica_that_was_seen_faulty_goes_although_its_drain_is_called_off() -> None:
    """A fault that shows while it drains is kept in mind."""
    stage = Stage([view(W0)])
    busy = stage.arrive(A)
    wanted = stage.arrive(B)
    stage.later(DRAIN_AFTER)
    stage.feed(Observed(W0, {A: resident(2, fault="spilled")}))
    stage.feed(Left(wanted))
    blocked = stage.arrive(A)
    assert stage.where(blocked) is None
    stage.finish(busy)
    assert stage.unloads() == [("w0", "a")]


def test_a_lone_model_is_loaded_as_soon_as_an_eviction_is_worth_it() -> None:
    """Without any further event, long before busy models would be drained for it."""
    stage = Stage([view(W0)], policy=SchedulingConfig(eviction_price=5.0))
    stage.feed(Observed(W0, {A: resident(2)}))
    for _ in range(40):
        stage.use(A)
    stage.now += 1
    wanted = stage.arrive(B)
    stage.later(3)
    assert stage.where(wanted) is None
    stage.later(7)
    assert stage.where(wanted) == "w0"


def test_effective_slots_are_believed() -> None:
    """A worker that reports one slot gets one request at a time, whatever num_parallel says."""
    stage = Stage([view(W0)], obeys=False)
    first, second = stage.arrive(A), stage.arrive(A)
    stage.feed(Loaded(W0, A, resident(1)))
    assert (stage.where(first), stage.where(second)) == ("w0", None)


def test_refused_load_is_tried_elsewhere_and_then_told() -> None:
    """Each worker that could serve the model is tried once; then its requests hear the engine's reason."""
    stage = Stage([view(W0), view(W1)], obeys=False)
    stage.arrive(A)
    stage.feed(LoadFailed(W0, A, "bad file", lasting=True))
    assert stage.loads() == [("w0", "a"), ("w1", "a")]
    stage.feed(LoadFailed(W1, A, "no such kind", lasting=True))
    (rejected,) = (effect for effect in stage.seen if isinstance(effect, Reject))
    assert rejected.rejection.reason is RejectReason.LOAD_FAILED
    assert rejected.rejection.message == "w0: bad file; w1: no such kind"


def test_the_wait_after_a_refused_load_doubles() -> None:
    """Two refusals in a row keep the model away twice as long as one."""
    stage = Stage([view(W0)], obeys=False)
    waits = []
    for _ in range(3):
        stage.arrive(A)
        stage.feed(LoadFailed(W0, A, "bad file", lasting=True))
        waits.append(stage.scheduler.next_deadline(stage.now))
        stage.later(waits[-1] - stage.now)
    assert [b - a for a, b in zip([0.0, *waits], waits, strict=False)] == [30.0, 60.0, 120.0]


def test_a_faulty_model_is_unloaded_and_placed_elsewhere() -> None:
    """One that spilled to the CPU, as its worker tells once it is loaded, serves nobody."""
    stage = Stage([view(W0), view(W1)], obeys=False)
    request = stage.arrive(A)
    stage.feed(Loaded(W0, A, resident(2, fault="4 of 9 GiB on the CPU")))
    assert stage.unloads() == [("w0", "a")]
    assert stage.loads() == [("w0", "a"), ("w1", "a")]
    stage.feed(Loaded(W1, A, resident(2)))
    assert stage.where(request) == "w1"


def test_load_that_broke_off_is_tried_again_without_losing_a_request() -> None:
    """A worker that died during a load is no verdict on the model."""
    stage = Stage([view(W0)], obeys=False)
    stage.arrive(A)
    stage.feed(LoadFailed(W0, A, "reset", lasting=False))
    assert stage.kinds() == ["Load"]
    due = stage.scheduler.next_deadline(stage.now)
    assert due == 1.0
    stage.later(due)
    assert stage.kinds() == ["Load", "Load"]


def test_request_that_comes_back_stands_where_it_stood() -> None:
    """A retry is not overtaken by those who arrived after it."""
    stage = Stage([view(W0, slots=1)])
    first = stage.arrive(A)
    stage.now = 1
    younger = stage.arrive(A)
    again = stage.arrive(A, arrived_at=0.5, avoid=frozenset({W0}))
    stage.finish(first)
    assert (stage.where(again), stage.where(younger)) == ("w0", None)


def test_requests_that_come_back_are_served_by_their_age() -> None:
    """The one that arrived first goes first, whoever failed first."""
    stage = Stage([view(W0, slots=1), view(W1, slots=1)], bounds={A: ReplicaBounds(most=1)})
    stage.feed(Observed(W0, {A: resident(1)}))
    busy = stage.arrive(A)
    late = stage.arrive(A, arrived_at=-1.0, avoid=frozenset({W1}))
    early = stage.arrive(A, arrived_at=-2.0, avoid=frozenset({W1}))
    stage.finish(busy)
    assert (stage.where(early), stage.where(late)) == ("w0", None)


def test_a_request_that_failed_wherever_the_model_is_gets_it_loaded_elsewhere() -> None:
    """Although one request would not be worth a further replica."""
    stage = Stage([view(W0, slots=8), view(W1)])
    stage.use(A)
    assert stage.where(stage.arrive(A, avoid=frozenset({W0}))) == "w1"


def test_a_request_that_failed_wherever_the_model_can_be_goes_back() -> None:
    """At once, when no other worker could take the model now."""
    stage = Stage([view(W0), view(W1)], bounds={B: ReplicaBounds(least=1)})
    stage.use(A)
    holder = next(worker for worker, model in stage.loads() if model == "a")
    avoid = frozenset({W0 if holder == "w0" else W1})
    assert stage.where(stage.arrive(A, avoid=avoid)) == holder


def test_a_plan_is_dropped_when_somebody_else_was_quicker() -> None:
    """A model that is seen resident is not loaded again when its victim is gone."""
    stage = Stage([view(W0, loaded=2)], obeys=False)
    stage.feed(Observed(W0, {B: resident(2), C: resident(2)}))
    stage.now = 5
    request = stage.arrive(A)
    ((_, victim),) = stage.unloads()
    kept = C if victim == "b" else B
    stage.feed(Observed(W0, {A: resident(2), kept: resident(2)}))
    assert stage.where(request) == "w0"
    stage.feed(Unloaded(W0, B if victim == "b" else C))
    assert stage.loads() == []


def test_pinned_model_is_loaded_unasked_and_never_unloaded() -> None:
    """It is there before the first request, outlives its keep-alive, and makes room for nobody."""
    stage = Stage([replace(view(W0), keep_alive_s=1.0)], bounds={A: ReplicaBounds(least=1)})
    assert stage.loads() == [("w0", "a")]
    waiting = stage.arrive(B)
    stage.feed(UnloadAsked(A))
    stage.later(DRAIN_AFTER + 100)
    assert "Unload" not in stage.kinds()
    assert stage.where(waiting) is None


def test_a_replica_that_drains_stays_when_it_has_become_the_last_of_a_pinned_model() -> None:
    """What it was to make room for is placed anew."""
    stage = Stage([view(W0), view(W1)], bounds={A: ReplicaBounds(least=1)})
    stage.feed(Observed(W1, {A: resident(2)}))
    busy = [stage.arrive(A) for _ in range(4)]
    stage.arrive(B)
    stage.later(DRAIN_AFTER)
    drained = next(w.view.instance for w in stage.scheduler.workers if w.replicas[A].draining)
    other = W1 if drained == W0 else W0
    stage.tell_fleet(view(drained), replace(view(other), ready=False))
    for request in busy:
        stage.finish(request)
    assert stage.unloads() == []


def test_a_plan_that_was_only_a_wish_is_dropped_with_the_wish() -> None:
    """A pinned model that waits for its room is not loaded any more once it is not pinned."""
    stage = Stage([view(W0)], obeys=False)
    stage.feed(Observed(W0, {B: resident(2)}))
    stage.bounds = {A: ReplicaBounds(least=1)}
    stage.tell_fleet(*stage.workers)
    stage.bounds = {}
    stage.tell_fleet(*stage.workers)
    stage.feed(Unloaded(W0, B))
    assert stage.loads() == []


def test_a_plan_is_dropped_where_the_model_may_not_be_any_more() -> None:
    """A worker that lost the model from its lists is not told to load it."""
    stage = Stage([view(W0)], obeys=False)
    stage.feed(Observed(W0, {B: resident(2)}))
    stage.now = 5
    stage.arrive(A)
    stage.tell_fleet(without(view(W0), A))
    stage.feed(Unloaded(W0, B))
    assert stage.loads() == []


def test_min_replicas_are_kept_on_so_many_workers() -> None:
    """Two workers hold the model although nobody asks for it."""
    stage = Stage([view(W0), view(W1)], bounds={A: ReplicaBounds(least=2)})
    assert stage.loads() == [("w0", "a"), ("w1", "a")]


def test_max_replicas_bound_how_many_workers_hold_a_model() -> None:
    """A third request waits for a slot of the one replica although another worker is empty."""
    stage = Stage([view(W0), view(W1)], bounds={A: ReplicaBounds(most=1)})
    requests = [stage.arrive(A) for _ in range(3)]
    assert [stage.where(request) for request in requests] == ["w0", "w0", None]


def test_model_is_loaded_on_the_worker_that_is_dedicated_to_it() -> None:
    """Also when another worker that may serve everything comes first by name."""
    stage = Stage([view(W0), replace(view(W1), dedicated=True, servable={A: 4})])
    assert stage.where(stage.arrive(A)) == "w1"
    assert stage.where(stage.arrive(B)) == "w0"


def test_a_dedicated_worker_serves_nothing_else_whoever_loaded_it_there() -> None:
    """A model that it may not serve gets no requests on it."""
    stage = Stage([replace(view(W0), dedicated=True, servable={A: 4}), view(W1)])
    stage.feed(Observed(W0, {B: resident(2)}))
    assert stage.where(stage.arrive(B)) == "w1"


def test_models_spread_over_empty_workers() -> None:
    """Of two workers with room and nothing to do, the one that holds less takes the next model."""
    stage = Stage([view(W0, loaded=2), view(W1, loaded=2)])
    stage.feed(Observed(W0, {A: resident(2)}))
    stage.use(B)
    assert stage.loads() == [("w1", "b")]


def test_a_keep_alive_of_nothing_does_not_override_that_of_another_tenant() -> None:
    """The model stays as long as anybody who used it wants."""
    stage = Stage([view(W0)])
    stage.use(A, "ann", keep_alive_s=60.0, keep_alive_given=True)
    stage.use(A, "bob", keep_alive_s=0.0, keep_alive_given=True)
    stage.later(59)
    assert stage.unloads() == []
    stage.later(2)
    assert stage.unloads() == [("w0", "a")]


def test_an_explicit_unload_waits_for_the_answers_under_way() -> None:
    """And is forgotten if somebody asks for the model in the meantime."""
    stage = Stage([view(W0)])
    request = stage.arrive(A)
    stage.feed(UnloadAsked(A))
    assert stage.unloads() == []
    stage.finish(request)
    assert stage.unloads() == [("w0", "a")]


def test_a_flood_of_one_tenant_delays_another_by_two_grants_at_most() -> None:
    """Who is within its share goes before all that wait of the one that turns out to be over it."""
    stage = Stage([replace(view(W0), max_queue=500)], policy=SchedulingConfig(fifo_turn=1000))
    flood = [stage.arrive(A, "ann") for _ in range(100)]
    stage.now = 1
    other = stage.arrive(A, "bob")
    for request in flood[:2]:
        stage.finish(request)
    assert stage.where(other) == "w0"


def test_answers_on_a_worker_that_is_down_keep_no_slot_of_another_from_their_tenant() -> None:
    """Though the tenant is over its share: nobody else uses the model."""
    stage = Stage([view(W0), view(W1)], obeys=False)
    stage.feed(Observed(W1, {A: resident(1)}))
    stage.arrive(A, "ann")
    stage.arrive(B, "bob")
    stage.tell_fleet(view(W0), replace(view(W1), ready=False))
    more = [stage.arrive(A, "ann") for _ in range(3)]
    stage.feed(Observed(W0, {A: resident(2)}))
    assert [stage.where(request) for request in more] == ["w0", "w0", None]


def test_while_only_a_flood_waits_the_last_slot_is_left_to_the_others() -> None:
    """So that a tenant that uses the model too need not wait for one of the flood's long answers."""
    stage = Stage([replace(view(W0, slots=4), max_queue=500)])
    stage.use(A, "bob")
    stage.now = 1
    for _ in range(40):
        stage.arrive(A, "ann")
    flood = [request for request in stage.grants() if request != "r1"]
    for request in flood[:2]:
        stage.finish(request)
    assert stage.where(stage.arrive(A, "bob")) == "w0"


def crowded(answer_s: float, slots: int = 2) -> Stage:
    """Return a worker on which A computes and has a request waiting, and B is resident and idle."""
    stage = Stage(
        [view(W0, loaded=2, slots=slots)], bounds={A: ReplicaBounds(most=1), B: ReplicaBounds(most=1)}
    )
    stage.use(A)
    for _ in range(2):  # B's answers take so long on average
        request = stage.arrive(B)
        stage.later(answer_s)
        stage.finish(request)
    for _ in range(3):
        stage.arrive(A)
    return stage


def test_a_model_that_is_idle_on_a_busy_worker_waits_for_a_fuller_batch() -> None:
    """For `batch_hold` at most, and only while others have requests waiting there."""
    stage = crowded(answer_s=20)
    held = stage.arrive(B)
    stage.later(stage.policy.batch_hold - 0.1)
    assert stage.where(held) is None
    stage.later(0.1)
    assert stage.where(held) == "w0"


def test_a_grant_tells_how_long_it_was_held_for_a_fuller_batch() -> None:
    """The time beside a free slot, of this request and this time only."""
    stage = crowded(answer_s=20)
    stage.arrive(B)
    stage.later(2)
    later = stage.arrive(B)
    stage.later(stage.policy.batch_hold - 2)
    told = [grant.reason.held_s for grant in stage.seen if isinstance(grant, Grant)][-2:]
    assert told == pytest.approx([stage.policy.batch_hold, stage.policy.batch_hold - 2])
    assert stage.where(later) == "w0"


def test_nothing_waits_for_a_batch_longer_than_an_answer_takes() -> None:
    """Where answers are quick there is little to be gained by waiting."""
    stage = crowded(answer_s=1)
    held = stage.arrive(B)
    assert stage.where(held) is None
    stage.later(1)
    assert stage.where(held) == "w0"


def test_one_request_is_a_full_batch_of_one_slot() -> None:
    """Nothing can be gained by waiting for another."""
    stage = crowded(answer_s=20, slots=1)
    assert stage.where(stage.arrive(B)) == "w0"


def test_a_full_batch_begins_at_once() -> None:
    """More requests than slots wait for nothing."""
    stage = crowded(answer_s=20)
    held = [stage.arrive(B) for _ in range(3)]
    assert [stage.where(request) for request in held] == ["w0", "w0", None]


def test_a_dead_worker_takes_nothing_with_it() -> None:
    """Requests that wait are served by its successor; an answer that was cut off holds no slot there."""
    stage = Stage([view(W0, slots=1)])
    cut = stage.arrive(A)
    waiting = stage.arrive(A)
    stage.tell_fleet(replace(view(W2, slots=1)))
    assert stage.where(waiting) == "w2"
    stage.feed(Left(cut))
    assert len(stage.scheduler.workers[0].replicas[A].busy) == 1


def test_two_variants_of_the_same_weights_do_not_stand_side_by_side_where_they_cannot() -> None:
    """The other one is unloaded first, although there is room for both."""
    long_a = A._replace(options=(("num_ctx", 8192),))
    worker = replace(view(W0, loaded=3), one_per_weights=True, servable={A: 4, long_a: 4})
    stage = Stage([worker])
    stage.use(A)
    stage.now = 5
    stage.arrive(long_a)
    assert [type(e) for e in stage.seen][-3:] == [Unload, Load, Grant]


def test_a_waiter_that_leaves_is_not_granted() -> None:
    """And leaving twice, or without having come, does nothing."""
    stage = Stage([view(W0, slots=1)])
    first, gone = stage.arrive(A), stage.arrive(A)
    for name in (gone, gone, RequestId("nobody")):
        stage.feed(Left(name))
    stage.finish(first)
    assert stage.grants() == [first]
    assert stage.scheduler.total_queued == 0


@pytest.mark.parametrize("failed_at", [W0, W1])
def test_a_request_that_comes_back_is_served_where_models_stay_for_nobody(failed_at: Instance) -> None:
    """The model that was loaded for it would else leave before it is given a slot, again and again."""
    stage = Stage([replace(view(W0), keep_alive_s=0.0)])
    again = stage.arrive(A, avoid=frozenset({failed_at}))
    assert stage.where(again) == "w0"
    assert (stage.loads(), stage.unloads()) == ([("w0", "a")], [])
    stage.finish(again)
    assert stage.unloads() == [("w0", "a")]


def test_every_event_is_heard() -> None:
    """A new kind of event without anybody who takes it in would fail only once it comes."""
    assert set(get_args(Event)) == set(scheduler._HANDLERS)
