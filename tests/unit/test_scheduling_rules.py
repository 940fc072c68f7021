from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.placement import PlacementPolicy
from gateway.scheduling.scheduler import Scheduler
from gateway.scheduling.types import (
    Arrived,
    DeadlinePassed,
    Effect,
    Event,
    Finished,
    FleetChanged,
    Grant,
    Left,
    Load,
    Loaded,
    LoadFailed,
    Reject,
    RejectReason,
    ReplicaBounds,
    Resident,
    Unload,
    Unloaded,
    WorkerView,
)

A, B, C = Variant("a"), Variant("b"), Variant("c")
W0, W1 = Instance("w0", 1), Instance("w1", 1)
SIZES: Mapping[Variant, int] = {A: 4, B: 4, C: 4}


def view(instance: Instance, *, loaded: int = 1, memory: int = 100, slots: int = 2) -> WorkerView:
    """A ready worker that may serve every model."""
    return WorkerView(
        instance=instance,
        ready=True,
        num_parallel=slots,
        max_loaded_models=loaded,
        max_queue=8,
        keep_alive_s=None,
        memory_bytes=memory,
        servable=SIZES,
    )


@dataclass
class Stage:
    """A scheduler, a clock, and a world that loads and unloads at once unless told otherwise."""

    workers: Sequence[WorkerView]
    bounds: Mapping[Variant, ReplicaBounds] = field(default_factory=dict)
    obeys: bool = True
    now: float = 0.0
    count: int = 0
    scheduler: Scheduler = field(default_factory=lambda: Scheduler(PlacementPolicy()))
    seen: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.feed(FleetChanged(tuple(self.workers), self.bounds))

    def feed(self, event: Event) -> list[Effect]:
        effects = self.scheduler.handle(event, self.now)
        self.seen += effects
        for effect in effects if self.obeys else ():
            match effect:
                case Load():
                    self.feed(Loaded(effect.instance, effect.variant, resident(2)))
                case Unload():
                    self.feed(Unloaded(effect.instance, effect.variant))
        return effects

    def arrive(self, variant: Variant) -> RequestId:
        self.count += 1
        name = RequestId(f"r{self.count}")
        self.feed(Arrived(request=name, variant=variant, arrived_at=self.now, deadline=self.now + 600))
        return name

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.feed(DeadlinePassed())

    def kinds(self) -> list[str]:
        return [type(effect).__name__ for effect in self.seen]

    def where(self, request: RequestId) -> str | None:
        grants = (e for e in self.seen if isinstance(e, Grant) and e.request == request)
        return next((grant.instance.worker for grant in grants), None)


def resident(slots: int) -> Resident:
    """What a worker reports of a loaded model."""
    return Resident(slots=slots, size_bytes=4, size_vram_bytes=0, context_length=64)


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
    stage = Stage([view(W0), view(W1)])
    requests = [stage.arrive(A) for _ in range(3)]
    assert [stage.where(request) for request in requests] == ["w0", "w0", "w1"]


def test_burst_loads_as_many_replicas_as_it_needs_at_once() -> None:
    """Slots that are coming count: three requests of two-slot workers need two loads, two need one."""
    stage = Stage([view(W0), view(W1)], obeys=False)
    stage.arrive(A)
    stage.arrive(A)
    assert stage.kinds() == ["Load"]
    stage.arrive(A)
    assert stage.kinds() == ["Load", "Load"]


def test_further_replica_does_not_push_out_what_was_just_used() -> None:
    """It may take the place of an idle model only after that one has been idle for a while."""
    stage = Stage([view(W0), view(W1)])
    stage.feed(Finished(stage.arrive(B)))
    busy = [stage.arrive(A) for _ in range(3)]
    assert stage.where(busy[2]) is None
    stage.later(10)
    assert stage.where(busy[2]) == "w0"


def test_least_recently_used_idle_model_is_evicted() -> None:
    """Of two idle models the one that was used longer ago makes room."""
    stage = Stage([view(W0, loaded=2)])
    for variant in (A, B):
        stage.feed(Finished(stage.arrive(variant)))
        stage.now += 1
    stage.feed(Finished(stage.arrive(A)))
    stage.arrive(C)
    assert [effect.variant for effect in stage.seen if isinstance(effect, Unload)] == [B]


def test_memory_bounds_what_is_loaded_together() -> None:
    """Two models that do not fit together are not loaded together, whatever max_loaded_models says."""
    stage = Stage([view(W0, loaded=3, memory=7)])
    stage.feed(Finished(stage.arrive(A)))
    stage.arrive(B)
    assert stage.kinds()[-3:] == ["Unload", "Load", "Grant"]


def test_busy_model_is_drained_only_after_patience() -> None:
    """A model without a replica waits 30 s; then the busy one gets no more requests and is swapped."""
    stage = Stage([view(W0)])
    first = stage.arrive(A)
    wanted = stage.arrive(B)
    stage.later(29)
    second = stage.arrive(A)
    assert stage.where(second) == "w0"
    stage.later(1)
    third = stage.arrive(A)
    assert stage.where(third) is None
    for request in (first, second):
        stage.feed(Finished(request))
    assert stage.where(wanted) == "w0"


def test_drain_is_called_off_when_nobody_waits_for_it_any_more() -> None:
    """If the client whose model was to come leaves, the draining model takes requests again."""
    stage = Stage([view(W0)])
    stage.arrive(A)
    wanted = stage.arrive(B)
    stage.later(30)
    blocked = stage.arrive(A)
    assert stage.where(blocked) is None
    stage.feed(Left(wanted))
    assert stage.where(blocked) == "w0"


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
    assert [effect.instance for effect in stage.seen if isinstance(effect, Load)] == [W0, W1]
    stage.feed(LoadFailed(W1, A, "bad file", lasting=True))
    (rejected,) = (effect for effect in stage.seen if isinstance(effect, Reject))
    assert (rejected.rejection.reason, rejected.rejection.message) == (RejectReason.LOAD_FAILED, "bad file")


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
    stage = Stage([view(W0, slots=1)], obeys=False)
    stage.arrive(A)
    stage.feed(Loaded(W0, A, resident(1)))
    stage.now = 1
    younger = stage.arrive(A)
    again = RequestId("again")
    stage.feed(Arrived(request=again, variant=A, arrived_at=0.5, deadline=600, avoid=frozenset({W0})))
    stage.feed(Finished(RequestId("r1")))
    assert (stage.where(again), stage.where(younger)) == ("w0", None)


def test_pinned_model_is_loaded_unasked_and_never_unloaded() -> None:
    """It is there before the first request, outlives its keep-alive, and makes room for nobody."""
    stage = Stage([replace(view(W0), keep_alive_s=1.0)], bounds={A: ReplicaBounds(least=1)})
    assert [effect.variant for effect in stage.seen if isinstance(effect, Load)] == [A]
    waiting = stage.arrive(B)
    stage.later(100)
    assert "Unload" not in stage.kinds()
    assert stage.where(waiting) is None


def test_min_replicas_are_kept_on_so_many_workers() -> None:
    """Two workers hold the model although nobody asks for it."""
    stage = Stage([view(W0), view(W1)], bounds={A: ReplicaBounds(least=2)})
    assert [effect.instance for effect in stage.seen if isinstance(effect, Load)] == [W0, W1]


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


def test_models_spread_over_empty_workers() -> None:
    """Of two workers with room and nothing to do, the one that holds less takes the next model."""
    stage = Stage([view(W0, loaded=2), view(W1, loaded=2)])
    for variant in (A, B):
        stage.feed(Finished(stage.arrive(variant)))
    assert [effect.instance for effect in stage.seen if isinstance(effect, Load)] == [W0, W1]
