"""A world of workers around the scheduler, with the promises as invariants.

The workers of this world are stricter than real ones: they fail the run when they are asked to load
twice, to unload what is busy, or to compute more answers than they have slots.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.scheduling import scheduler as real_scheduler
from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.placement import PlacementPolicy
from gateway.scheduling.residency import Phase
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
    Observed,
    Reject,
    ReplicaBounds,
    Resident,
    Unload,
    UnloadAsked,
    Unloaded,
    WorkerView,
)

MODELS = [Variant("a"), Variant("b"), Variant("c"), Variant("d")]
SIZES = {MODELS[0]: 2, MODELS[1]: 3, MODELS[2]: 5, MODELS[3]: 50}
NAMES = ["g0", "g1", "g2"]
POPULAR = [*MODELS[:3], *MODELS]
"""Drawn from: the one that fits nowhere only now and then."""
BOUNDS = [ReplicaBounds(least=1), ReplicaBounds(least=2), ReplicaBounds(most=1), ReplicaBounds(1, 1)]
MAX_QUEUE = 2
LIVING = frozenset({"waiting", "granted"})
MOST_UPHEAVALS = 4
"""Changes of the fleet in one history; more would leave no time for anything else."""
HASTY = PlacementPolicy(patience_s=3.0, replica_idle_s=1.0, load_retry_s=5.0)
"""Short times, so that drains, swaps and retries are common in a history of forty events."""


@dataclass
class World:
    """What a worker process really holds and does."""

    view: WorkerView
    loading: set[Variant] = field(default_factory=set)
    unloading: set[Variant] = field(default_factory=set)
    resident: dict[Variant, Resident] = field(default_factory=dict)
    running: dict[RequestId, Variant] = field(default_factory=dict)


class SchedulerMachine(RuleBasedStateMachine):
    """Random events against the scheduler of `module`."""

    module: ModuleType = real_scheduler

    def __init__(self) -> None:
        super().__init__()
        self.scheduler: Any = self.module.Scheduler(HASTY)
        self.twin: Any = self.module.Scheduler(HASTY)
        self.now = 0.0
        self.worlds: dict[Instance, World] = {}
        self.state: dict[RequestId, str] = {}
        self.requests: dict[RequestId, Arrived] = {}
        self.bounds: dict[Variant, ReplicaBounds] = {}
        self.upheavals = 0
        self.count = 0

    # What the scheduler is told ---------------------------------------------------

    def feed(self, event: Event) -> None:
        effects = self.scheduler.handle(event, self.now)
        assert effects == self.twin.handle(event, self.now), "same events, same effects"
        for effect in effects:
            self.obey(effect)

    def obey(self, effect: Effect) -> None:
        match effect:
            case Grant():
                self.check_grant(effect)
            case Load():
                world = self.worlds[effect.instance]
                assert world.view.ready, "load on a worker that is not ready"
                assert not world.loading, "two loads at once on a worker"
                assert effect.variant not in world.resident, "loads what is resident"
                assert effect.variant not in world.unloading, "loads what is being unloaded"
                assert effect.variant in world.view.servable, "loads what the worker may not serve"
                most = self.bounds.get(effect.variant, ReplicaBounds()).most
                assert most is None or self.holders(effect.variant) < most, "more replicas than max_replicas"
                world.loading.add(effect.variant)
                self.check_room(world)
            case Unload():
                world = self.worlds[effect.instance]
                assert effect.variant in world.resident, "unloads what is not resident"
                assert effect.variant not in world.running.values(), "unloads a busy model"
                del world.resident[effect.variant]
                world.unloading.add(effect.variant)
                least = self.bounds.get(effect.variant, ReplicaBounds()).least
                assert self.holders(effect.variant) >= least, "a pinned model was unloaded"
            case Reject():
                assert self.state[effect.request] == "waiting", "answered twice"
                self.state[effect.request] = "rejected"

    def holders(self, variant: Variant) -> int:
        ready = [world for world in self.worlds.values() if world.view.ready]
        return sum(variant in world.resident or variant in world.loading for world in ready)

    def check_grant(self, grant: Grant) -> None:
        assert self.state[grant.request] == "waiting", "answered twice"
        request, world = self.requests[grant.request], self.worlds[grant.instance]
        assert world.view.ready, "grant to a worker that is not ready"
        assert grant.variant == request.variant, "grant of another model"
        assert grant.variant in world.resident, "grant where the model is not resident"
        world.running[grant.request] = grant.variant
        running = list(world.running.values()).count(grant.variant)
        assert running <= world.resident[grant.variant].slots, "more grants than slots"
        if grant.instance in request.avoid:
            others = [i for i in self.servers(grant.variant) if i not in request.avoid]
            assert not others, "goes back to where it failed although another could serve"
        for other, state in self.state.items():
            older = self.requests[other]
            if state == "waiting" and older.variant == grant.variant and not older.avoid:
                assert older.arrived_at >= request.arrived_at or other == grant.request, "overtaken"
        self.state[grant.request] = "granted"

    def servers(self, variant: Variant) -> list[Instance]:
        return [i for i, w in self.worlds.items() if w.view.ready and variant in w.view.servable]

    def check_room(self, world: World) -> None:
        held = [*world.loading, *world.resident, *world.unloading]
        assert len(held) <= world.view.max_loaded_models, "more models than max_loaded_models"
        assert sum(SIZES[v] for v in held) <= world.view.memory_bytes, "more than the memory"

    def draw_request(self, data: st.DataObject, *states: str) -> RequestId:
        return data.draw(st.sampled_from([r for r, state in self.state.items() if state in states]))

    def loads(self) -> list[tuple[Instance, Variant]]:
        return [(i, v) for i, world in self.worlds.items() for v in sorted(world.loading)]

    def unloads(self) -> list[tuple[Instance, Variant]]:
        return [(i, v) for i, world in self.worlds.items() for v in sorted(world.unloading)]

    def idle(self) -> list[tuple[Instance, Variant]]:
        held = ((i, w, v) for i, w in self.worlds.items() for v in sorted(w.resident))
        return [(i, v) for i, world, v in held if v not in world.running.values()]

    # Rules --------------------------------------------------------------------------

    @initialize(
        servable=st.lists(st.frozensets(st.sampled_from(MODELS), min_size=3), min_size=3, max_size=3),
        loaded=st.integers(1, 3),
        keep_alive_s=st.sampled_from([None, None, 0.0, 6.0]),
        count=st.integers(1, 3),
        bounds=st.dictionaries(st.sampled_from(MODELS[:3]), st.sampled_from(BOUNDS), max_size=2),
    )
    def fleet_appears(
        self,
        *,
        servable: list[frozenset[Variant]],
        loaded: int,
        keep_alive_s: float | None,
        count: int,
        bounds: dict[Variant, ReplicaBounds],
    ) -> None:
        self.bounds = bounds
        for name, models in list(zip(NAMES, servable, strict=True))[:count]:
            view = WorkerView(
                instance=Instance(name, 1),
                ready=True,
                num_parallel=2,
                max_loaded_models=loaded,
                max_queue=MAX_QUEUE,
                keep_alive_s=keep_alive_s,
                memory_bytes=8,
                servable={variant: SIZES[variant] for variant in models},
            )
            self.worlds[view.instance] = World(view)
        self.tell_fleet()

    @precondition(lambda self: self.upheavals < MOST_UPHEAVALS)
    @rule(data=st.data())
    def worker_comes_or_goes(self, data: st.DataObject) -> None:
        world = self.worlds[data.draw(st.sampled_from(sorted(self.worlds)))]
        world.view = replace(world.view, ready=not world.view.ready)
        self.tell_fleet()

    @precondition(lambda self: self.upheavals < MOST_UPHEAVALS)
    @rule(data=st.data(), ready=st.booleans())
    def worker_is_replaced(self, data: st.DataObject, *, ready: bool) -> None:
        dead = self.worlds.pop(data.draw(st.sampled_from(sorted(self.worlds))))
        old = dead.view.instance
        view = replace(dead.view, instance=Instance(old.worker, old.incarnation + 1), ready=ready)
        self.worlds[view.instance] = World(view)
        self.tell_fleet()

    def tell_fleet(self) -> None:
        self.upheavals += 1
        self.feed(FleetChanged(tuple(world.view for world in self.worlds.values()), self.bounds))

    @rule(
        variant=st.sampled_from(POPULAR),
        ttl=st.floats(5, 60),
        keep=st.sampled_from([None, "for ever", 0.0, 5.0]),
        burst=st.integers(1, 4),
    )
    def arrive(self, variant: Variant, ttl: float, keep: str | float | None, burst: int) -> None:
        for _ in range(burst):
            self.count += 1
            self.now += 1e-6  # no two requests arrive at one instant
            request = Arrived(
                request=RequestId(f"r{self.count}"),
                variant=variant,
                arrived_at=self.now,
                deadline=self.now + ttl,
                keep_alive_s=keep if isinstance(keep, float) else None,
                keep_alive_given=keep is not None,
            )
            self.requests[request.request], self.state[request.request] = request, "waiting"
            self.feed(request)

    @precondition(lambda self: "granted" in self.state.values())
    @rule(data=st.data(), again=st.booleans())
    def finishes(self, data: st.DataObject, *, again: bool) -> None:
        request = self.draw_request(data, "granted")
        avoid = self.ends(request)
        self.feed(Finished(request))
        if again:
            old = self.requests[request]
            came_back = Arrived(
                request=RequestId(f"{request}'"),
                variant=old.variant,
                arrived_at=old.arrived_at,
                deadline=max(old.deadline, self.now + 1),
                avoid=old.avoid | avoid,
            )
            self.requests[came_back.request], self.state[came_back.request] = came_back, "waiting"
            self.feed(came_back)

    @precondition(lambda self: self.count % 3 == 0 and not LIVING.isdisjoint(self.state.values()))
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        request = self.draw_request(data, "waiting", "granted")
        self.ends(request)
        self.feed(Left(request))
        self.feed(Left(request))

    def ends(self, request: RequestId) -> frozenset[Instance]:
        self.state[request] = "over"
        where = [instance for instance, world in self.worlds.items() if request in world.running]
        for instance in where:
            del self.worlds[instance].running[request]
        return frozenset(where)

    @precondition(lambda self: self.loads())
    @rule(data=st.data(), slots=st.integers(1, 3), how=st.sampled_from(["ok"] * 6 + ["refused", "broken"]))
    def load_ends(self, data: st.DataObject, slots: int, how: str) -> None:
        instance, variant = data.draw(st.sampled_from(self.loads()))
        world = self.worlds[instance]
        world.loading.remove(variant)
        if how == "ok":
            resident = Resident(slots=slots, size_bytes=SIZES[variant], size_vram_bytes=0, context_length=8)
            world.resident[variant] = resident
            self.feed(Loaded(instance, variant, resident))
        else:
            self.feed(LoadFailed(instance, variant, how, lasting=how == "refused"))

    @precondition(lambda self: self.unloads())
    @rule(data=st.data())
    def unload_ends(self, data: st.DataObject) -> None:
        instance, variant = data.draw(st.sampled_from(self.unloads()))
        self.worlds[instance].unloading.remove(variant)
        self.feed(Unloaded(instance, variant))

    @precondition(lambda self: self.idle())
    @rule(variant=st.sampled_from(MODELS))
    def unload_is_asked(self, variant: Variant) -> None:
        self.feed(UnloadAsked(variant))

    @precondition(lambda self: self.idle())
    @rule(data=st.data())
    def idle_model_vanishes(self, data: st.DataObject) -> None:
        instance, variant = data.draw(st.sampled_from(self.idle()))
        world = self.worlds[instance]
        del world.resident[variant]
        self.feed(Observed(instance, dict(world.resident)))

    @rule(dt=st.floats(0.01, 8))
    def time_passes(self, dt: float) -> None:
        """Sleep as the shell does: from one named deadline to the next."""
        end = self.now + dt
        while (due := self.scheduler.next_deadline(self.now)) is not None and due <= end:
            assert due > self.now, "a deadline that does not move time on"
            self.now = due
            self.feed(DeadlinePassed())
        self.now = end

    # Promises -------------------------------------------------------------------------

    @invariant()
    def nobody_is_lost(self) -> None:
        waiting = {r for r, state in self.state.items() if state == "waiting"}
        assert waiting == set(self.scheduler._waiting)
        assert self.scheduler.total_queued == sum(len(q) for q in self.scheduler._queues.values())

    @invariant()
    def slots_in_use_are_the_requests_running(self) -> None:
        for worker in self.scheduler.workers:
            running = set(self.worlds[worker.view.instance].running)
            assert running == {r for replica in worker.replicas.values() for r in replica.busy}

    @invariant()
    def no_free_slot_while_a_request_without_grudge_waits(self) -> None:
        for variant, queue in self.scheduler._queues.items():
            if any(not request.avoid for request in queue):
                assert not self.scheduler._free_slot(variant)

    @invariant()
    def queues_are_bounded(self) -> None:
        for queue in self.scheduler._queues.values():
            assert sum(not request.avoid for request in queue) <= MAX_QUEUE * len(NAMES)

    @invariant()
    def an_expired_idle_model_is_on_its_way_out(self) -> None:
        for worker in self.scheduler.workers:
            for variant, replica in worker.replicas.items():
                expired = replica.expires_at is not None and replica.expires_at <= self.now
                kept = (worker.view.instance, variant) in self.scheduler.protected()
                assert kept or not (expired and worker.view.ready), "an idle model outlived its keep-alive"

    @invariant()
    def whatever_is_planned_is_waited_for_and_whatever_drains_makes_room(self) -> None:
        for worker in self.scheduler.workers:
            plans = {v: r for v, r in worker.replicas.items() if r.phase is Phase.PLANNED}
            assert all(self.scheduler.queued(v) or self.bounds[v].least for v in plans)
            wanted = {victim for plan in plans.values() for victim in plan.victims}
            draining = {v for v, r in worker.replicas.items() if r.phase is Phase.RESIDENT and r.draining}
            assert draining <= wanted

    @invariant()
    def whoever_waits_is_timed(self) -> None:
        if self.scheduler.total_queued:
            assert self.scheduler.next_deadline(self.now) is not None

    @invariant()
    def a_model_that_fits_nowhere_never_waits(self) -> None:
        for request, state in self.state.items():
            assert not (state == "waiting" and self.requests[request].variant == MODELS[3])

    def teardown(self) -> None:
        """From every reachable state, when all clients leave, nothing is held any more."""
        for request in [r for r, state in self.state.items() if state in ("waiting", "granted")]:
            self.ends(request)
            self.feed(Left(request))
        assert not self.scheduler._leases
        assert not self.scheduler._waiting
