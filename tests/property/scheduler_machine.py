"""Random histories of requests, workers and time around the scheduler, for hypothesis.

What happens is chosen here; what is promised is checked by the witness, and the books after every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.scheduling import scheduler as real_scheduler
from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.types import (
    Arrived,
    Event,
    Finished,
    Left,
    Loaded,
    LoadFailed,
    Observed,
    ReplicaBounds,
    UnloadAsked,
    Unloaded,
    WorkerView,
)
from tests.property import scheduler_acts as acts
from tests.property import scheduler_books as books
from tests.property import scheduler_promises as promises
from tests.property.scheduler_witness import Witness
from tests.property.scheduler_world import FOREIGN, HASTY, HUGE, LONG_A, SHORTER, SIZES, A, B, C, World
from tests.support.scheduler_stage import FIVE_SECONDS

Item = TypeVar("Item")
FOR_EVER: Final = -1.0
picks = st.integers(0, 5039)
"""A number that picks one of however many there are; cheaper than drawing from a list that changes."""


@dataclass(frozen=True)
class Scene:
    """What kind of histories are played."""

    workers: tuple[int, ...] = (1, 2, 3)
    models: tuple[Variant, ...] = (A, B, C, LONG_A, A, B, C, HUGE)
    """As often as they are asked for."""
    tenants: tuple[str, ...] = ("ann", "bob", "ann", "cas")
    max_loaded: tuple[int, ...] = (1, 2, 3)
    memory_bytes: int = 8
    keep_alives_s: tuple[float | None, ...] = (None, None, 0.0, 6.0)
    wishes_s: tuple[float | None, ...] = (None, None, FOR_EVER, 0.0, 5.0)
    """Of requests; None says nothing."""
    bounds: tuple[ReplicaBounds | None, ...] = (None,)
    """Of the first models, drawn for each."""
    ttls_s: tuple[float, ...] = (7.0, 25.0, 900.0)
    bursts: tuple[int, ...] = (1, 2, 4)
    upheavals: int = 3
    """Changes of the fleet in one history; more would leave no time for anything else."""
    looks: bool = True
    """Whether things happen behind the scheduler's back."""
    one_per_weights: tuple[bool, ...] = (False, True)
    max_queue: int = 3
    failures: bool = True
    eventful: bool = False
    """Whether what `EventfulMachine` adds happens, too."""
    barred: tuple[int, ...] = (0, 0, 0, 0, 1, 1, 2)
    """From how many workers a request is barred."""


BOUNDS: Final = (
    None,
    ReplicaBounds(least=1),
    ReplicaBounds(least=2),
    ReplicaBounds(most=1),
    ReplicaBounds(least=1, most=1),
)


def pick_of(items: Sequence[Item], pick: int) -> Item:
    """Return one of them."""
    return items[pick % len(items)]


class SchedulerMachine(RuleBasedStateMachine):
    """Random events against the scheduler of `module`."""

    module: ModuleType = real_scheduler
    scene: Scene = Scene()
    with_twin: bool = True

    def __init__(self) -> None:
        super().__init__()
        twin = self.module.Scheduler(HASTY) if self.with_twin else None
        self.witness = Witness(self.module.Scheduler(HASTY), twin)
        self.upheavals = 0
        self.count = 0
        self.dead: list[Instance] = []

    # Fleet ----------------------------------------------------------------------------

    @initialize(pick=picks, bounds=st.lists(picks, min_size=2, max_size=2))
    def fleet_appears(self, pick: int, bounds: list[int]) -> None:
        scene, witness = self.scene, self.witness
        drawn = zip((A, B), (pick_of(scene.bounds, number) for number in bounds), strict=True)
        witness.bounds = {variant: bound for variant, bound in drawn if bound is not None}
        for number in range(pick_of(scene.workers, pick)):
            view = WorkerView(
                instance=Instance(f"g{number}", 1),
                ready=True,
                num_parallel=2,
                max_loaded_models=pick_of(scene.max_loaded, pick // 3),
                max_queue=scene.max_queue,
                keep_alive_s=pick_of(scene.keep_alives_s, pick // 7),
                memory_bytes=scene.memory_bytes,
                device=f"d{number % 2}",
                one_per_weights=pick_of(scene.one_per_weights, pick // 2),
                dedicated=number == 2,
                servable=self.served(number, pick // 5),
            )
            witness.worlds[view.instance] = World(view)
        for scheduler in filter(None, (witness.scheduler, witness.twin) if pick % 4 else ()):
            scheduler.estimates.restore(dict.fromkeys((A, B, C), FIVE_SECONDS), 0.0, witness.now)
        self.tell_fleet()

    def served(self, number: int, pick: int) -> dict[Variant, int]:
        """The third worker serves single models."""
        models = sorted(set(self.scene.models))
        if number == 2:
            models = [model for model in models if model in (A, C)]
        left_out = pick_of(models, pick) if pick % 4 == 0 and len(models) > 1 else None
        return {variant: SIZES[variant] for variant in models if variant != left_out}

    def tell_fleet(self) -> None:
        self.upheavals += 1
        self.witness.tell_fleet()

    @precondition(lambda self: self.upheavals <= self.scene.upheavals)
    @rule(pick=picks, kind=st.sampled_from(["up or down", "replaced", "replaced", "models", "bounds"]))
    def fleet_changes(self, pick: int, kind: str) -> None:
        worlds = self.witness.worlds
        world = worlds[pick_of(sorted(worlds), pick)]
        old = world.view.instance
        if kind == "up or down":
            world.view = replace(world.view, ready=not world.view.ready)
        elif kind == "replaced":
            del worlds[old]
            self.dead.append(old)
            new = replace(world.view, instance=Instance(old.worker, old.incarnation + 1), ready=pick % 3 > 0)
            worlds[new.instance] = World(new)
        elif kind == "models":
            world.view = replace(world.view, servable=self.served(pick % 3, pick // 3))
        else:
            bound = pick_of(self.scene.bounds, pick // 3)
            self.witness.bounds = {} if bound is None else {pick_of((A, B), pick): bound}
        self.tell_fleet()

    @precondition(lambda self: self.upheavals < self.scene.upheavals)
    @rule(pick=picks, slots=st.integers(1, 3), busy=st.integers(1, 3))
    def a_worker_comes_with_answers_of_another_gateway(self, pick: int, slots: int, busy: int) -> None:
        """What it holds and computes is told before it is ready."""
        witness = self.witness
        view = witness.worlds[pick_of(sorted(witness.worlds), pick)].view
        variant = pick_of(sorted(view.servable), pick // 3)
        if SIZES[variant] > view.memory_bytes:
            return
        del witness.worlds[view.instance]
        self.dead.append(view.instance)
        instance = Instance(view.instance.worker, view.instance.incarnation + 1)
        world = witness.worlds[instance] = World(replace(view, instance=instance, ready=False))
        self.tell_fleet()
        acts.appears(witness, instance, variant, acts.resident(variant, SIZES[variant], slots))
        for _ in range(min(busy, slots)):
            acts.adopt(witness, self.a_request(variant, pick // 7), instance)
        world.view = replace(world.view, ready=True)
        self.tell_fleet()

    # Requests ---------------------------------------------------------------------------

    def a_request(self, variant: Variant, pick: int) -> Arrived:
        """Return one that was given a slot already."""
        self.count += 1
        return Arrived(
            request=RequestId(f"r{self.count}"),
            variant=variant,
            arrived_at=self.witness.now - pick % 9,
            deadline=self.witness.now + 900.0,
            tenant=pick_of(self.scene.tenants, pick),
            prompt_tokens=pick_of((0, 40), pick),
        )

    @rule(pick=picks, more=picks)
    def requests_arrive(self, pick: int, more: int) -> None:
        scene = self.scene
        for number in range(pick_of(scene.bursts, more)):
            self.count += 1
            self.witness.now += 1e-5  # no two requests arrive at one instant
            keep_s = pick_of(scene.wishes_s, more // 4)
            request = Arrived(
                request=RequestId(f"r{self.count}"),
                variant=pick_of(scene.models, pick),
                arrived_at=self.witness.now,
                deadline=self.witness.now + pick_of(scene.ttls_s, more // 3),
                keep_alive_s=None if keep_s in (None, FOR_EVER) else keep_s,
                keep_alive_given=keep_s is not None,
                tenant=pick_of(scene.tenants, more // 5 + number * (pick % 2)),
                session=pick_of(("", "s", "t"), pick // 9),
                prompt_tokens=pick_of((0, 40, 4000), pick // 8),
                background=pick_of((False, False, True), pick // 10 + number),
                barred=self.some_workers(pick_of(scene.barred, more // 6), pick // 11 + number),
            )
            self.witness.feed(request)

    def some_workers(self, count: int, pick: int) -> frozenset[Instance]:
        """Return so many of those there are, if there are so many."""
        there = sorted(self.witness.worlds)
        return frozenset(there[(pick + number) % len(there)] for number in range(count))

    @precondition(lambda self: self.witness.granted)
    @rule(pick=picks, how=st.sampled_from(["begins", "ends", "ends", "ends", "leaves", "fails"]))
    def an_answer_goes_on(self, pick: int, how: str) -> None:
        witness = self.witness
        request = pick_of(list(witness.granted), pick)
        if how == "begins":
            acts.begin_answer(witness, request)
        elif how == "leaves":
            acts.leave(witness, request)
        elif how == "ends":
            acts.finish(witness, request, pick_of((None, 3, 900), pick), pick_of((None, 50), pick // 3))
        else:
            self.comes_back(request, pick)

    def comes_back(self, request: RequestId, pick: int) -> None:
        """An attempt failed; the request is made again as another one with the same place."""
        witness, old = self.witness, self.witness.requests[request]
        where = witness.granted[request]
        if pick % 2:
            acts.leave(witness, request)
        else:
            acts.finish(witness, request, None, None)
        again = replace(old, request=RequestId(f"{request}'"), avoid=old.avoid | {where})
        if again.deadline > witness.now:
            witness.feed(again)

    @precondition(lambda self: self.witness.waiting)
    @rule(pick=picks, all_of_it=st.booleans())
    def waiters_leave(self, pick: int, *, all_of_it: bool) -> None:
        witness = self.witness
        first = pick_of(list(witness.waiting), pick)
        variant = witness.requests[first].variant
        for request in [r.request for r in witness.queue(variant)] if all_of_it else [first]:
            if request in witness.waiting:
                acts.leave(witness, request)

    # Workers ------------------------------------------------------------------------------

    @precondition(lambda self: any(w.loading or w.unloading for w in self.witness.worlds.values()))
    @rule(pick=picks, size=st.integers(-1, 1), slots=st.integers(1, 3))
    def a_worker_reports(self, pick: int, size: int, slots: int) -> None:
        witness = self.witness
        under_way = [(i, v) for i, w in witness.worlds.items() for v in (*w.loading, *w.unloading)]
        instance, variant = pick_of(under_way, pick)
        if variant in witness.worlds[instance].unloading:
            acts.unload_ends(witness, instance, variant)
            return
        kinds = ("ok",) * 7 + (("refused", "broken", "faulty") if self.scene.failures else ())
        kind = pick_of(kinds, pick // 7)
        if kind in ("refused", "broken"):
            acts.load_fails(witness, instance, lasting=kind == "refused")
            return
        measured = max(1, SIZES[variant] + (size if pick % 3 == 0 else 0))
        seen = acts.resident(variant, measured, slots, "spilled" if kind == "faulty" else "")
        acts.load_ends(witness, instance, seen)

    @precondition(lambda self: self.scene.looks)
    @rule(pick=picks, kind=st.sampled_from(["vanishes", "appears", "changes", "faulty", "same"]))
    def a_worker_is_looked_at(self, pick: int, kind: str) -> None:
        witness = self.witness
        instance = pick_of(sorted(witness.worlds), pick)
        world = witness.worlds[instance]
        held, idle = sorted(world.held), sorted(world.idle())
        if kind == "vanishes" and idle:
            acts.vanishes(witness, instance, pick_of(idle, pick // 3))
        elif kind == "appears":
            self.appears(world, pick_of((A, B, FOREIGN), pick // 3))
        elif kind in ("changes", "faulty") and held:
            variant = pick_of(held, pick // 3)
            fault = "spilled" if kind == "faulty" and not world.held[variant].faulty else ""
            seen = acts.resident(variant, max(1, SIZES[variant] - pick % 2), 1 + pick // 9 % 3, fault)
            acts.appears(witness, instance, variant, seen)
        else:
            acts.look(witness, instance)

    def appears(self, world: World, variant: Variant) -> None:
        """Somebody else loads a model where there is room."""
        there = [*world.held, *world.loading, *world.unloading]
        rival = world.view.one_per_weights and any(v.digest == variant.digest for v in there)
        room = world.taken_bytes(self.witness.need) + SIZES[variant] <= world.view.memory_bytes
        if variant not in there and not rival and room and len(there) < world.view.max_loaded_models:
            seen = acts.resident(variant, SIZES[variant], 2)
            acts.appears(self.witness, world.view.instance, variant, seen)

    @precondition(lambda self: self.dead)
    @rule(pick=picks)
    def the_dead_speak(self, pick: int) -> None:
        """What comes late from a process that is gone changes nothing."""
        instance, seen = pick_of(self.dead, pick), acts.resident(A, 2, 3)
        late: tuple[Event, ...] = (
            Loaded(instance, A, seen),
            LoadFailed(instance, A, "gone", lasting=True),
            Unloaded(instance, A),
            Observed(instance, {A: seen}),
            Finished(RequestId("unknown"), output_tokens=5),
            Left(RequestId("unknown")),
        )
        assert not self.witness.feed(pick_of(late, pick // 3)), "listens to the dead"

    @rule(variant=st.sampled_from([A, B, C]))
    def unload_is_asked(self, variant: Variant) -> None:
        self.witness.feed(UnloadAsked(variant))

    # Time -----------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.013, 0.21, 1.07, 1.9, 3.3, 8.6]))
    def time_passes(self, seconds: float) -> None:
        self.witness.pass_time(seconds)

    # Promises -------------------------------------------------------------------------------

    @invariant()
    def promises_hold(self) -> None:
        self.witness.sound = False
        books.check(self.witness)
        promises.check(self.witness)
        self.witness.sound = True

    def teardown(self) -> None:
        """A quiet time serves all who wait; then all leave, and nothing is held for them."""
        if not self.witness.worlds or not self.witness.sound:
            return  # what was found already says more
        acts.quiet_time(self.witness)
        books.check(self.witness)
        for request in [*self.witness.waiting, *self.witness.granted]:
            if request in self.witness.waiting or request in self.witness.granted:
                acts.leave(self.witness, request)
        books.check_no_trace(self.witness)


class EventfulMachine(SchedulerMachine):
    """What is rare, too: apart, so that it takes nobody's time who looks for something else."""

    @precondition(lambda self: self.witness.granted)
    @rule(pick=picks)
    def memory_runs_out(self, pick: int) -> None:
        """The request is made again, as others are that failed, or goes on for a while."""
        request = pick_of(list(self.witness.granted), pick)
        acts.runs_out_of_memory(self.witness, request)
        if pick % 3:
            self.comes_back(request, pick)

    @precondition(lambda self: self.witness.policy is HASTY)
    @rule()
    def the_operator_wants_other_constants(self) -> None:
        self.witness.change_policy(SHORTER)
