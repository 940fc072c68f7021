"""What is the case between the scheduler and its workers, from the accounts of the test.

Looks into the scheduler only to learn what is being drained or about to be loaded, which no effect tells.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import Any

from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.types import Arrived, ReplicaBounds
from supervisor.contract.config import SchedulingConfig
from tests.property.scheduler_ledger import Strikes, TokenAccount
from tests.property.scheduler_world import HASTY, SIZES, Worlds

EPS = 1e-6
RECENT_S = 120.0
"""So long a tenant that asked for a model is one of those who use it."""
Key = tuple[Instance, Variant]


@dataclass
class Before:
    """What was under way before the event."""

    draining: set[Key]
    coming: set[Key]
    live: set[Key]
    slots: Counter[Variant]
    over: set[str]


@dataclass
class Situation:
    """One scheduler, its workers, and everything that was promised to whom."""

    scheduler: Any
    twin: Any = None
    policy: SchedulingConfig = HASTY
    now: float = 0.0
    worlds: Worlds = field(default_factory=dict)
    bounds: dict[Variant, ReplicaBounds] = field(default_factory=dict)
    requests: dict[RequestId, Arrived] = field(default_factory=dict)
    waiting: dict[RequestId, Arrived] = field(default_factory=dict)
    granted: dict[RequestId, Instance] = field(default_factory=dict)
    answering: set[RequestId] = field(default_factory=set)
    tokens: TokenAccount = field(init=False)
    need: dict[Variant, int] = field(default_factory=lambda: dict(SIZES))
    """Bytes that a model is expected to take: as it was last measured."""
    least: Counter[Variant] = field(default_factory=Counter)
    """What it had when memory ran out."""
    asked: set[Key] = field(default_factory=set)
    """Replicas that a client wants gone and nobody has used since."""
    grants: Counter[Variant] = field(default_factory=Counter)
    last_asked: dict[tuple[Variant, str], float] = field(default_factory=dict)
    sound: bool = True
    """Whether every check so far was passed to its end."""
    strikes: Strikes = field(init=False)
    before: Before = field(init=False)

    def __post_init__(self) -> None:
        self.strikes = Strikes(self.policy.load_retry)
        self.tokens = TokenAccount(self.policy.fair_share)

    # What is the case -------------------------------------------------------------------

    def queue(self, variant: Variant) -> list[Arrived]:
        """Return who waits for the model."""
        return [request for request in self.waiting.values() if request.variant == variant]

    def age(self, request: Arrived) -> float:
        """Return how long ago it arrived."""
        return self.now - request.arrived_at

    def oldest_age(self, variant: Variant) -> float:
        """Return how long the oldest has waited; infinite for nobody."""
        return max((self.age(request) for request in self.queue(variant)), default=inf)

    def is_late(self, request: Arrived) -> bool:
        """Whether it cannot meet the goal any more, or nobody hurries for it."""
        return request.background or self.age(request) > self.policy.savable_share * self.policy.ttft_goal

    def servers(self, variant: Variant) -> list[Instance]:
        """Return the workers that are up and may serve the model."""
        return [i for i, w in self.worlds.items() if w.view.ready and variant in w.view.servable]

    def holders(self, variant: Variant) -> int:
        """Return how many workers that are up have it in memory, or soon."""
        up = [world for world in self.worlds.values() if world.view.ready]
        return sum(variant in (*world.held, *world.loading, *world.unloading) for world in up)

    def bound(self, variant: Variant) -> ReplicaBounds:
        """Return what the operator wants of the model."""
        return self.bounds.get(variant, ReplicaBounds())

    def healthy(self, variant: Variant) -> list[Instance]:
        """Return the workers that are up and hold it as it should be."""
        draining = self.draining()
        up = [(i, self.worlds[i].held.get(variant)) for i in self.servers(variant)]
        return [i for i, held in up if held and not held.faulty and (i, variant) not in draining]

    def slots(self) -> Counter[Variant]:
        """Return how many answers can be computed at once, by model."""
        counts: Counter[Variant] = Counter()
        draining = self.draining()
        for instance, world in self.worlds.items():
            for variant, held in world.held.items() if world.view.ready else ():
                serves = variant in world.view.servable and (instance, variant) not in draining
                if serves and not held.faulty:
                    counts[variant] += held.resident.slots
        return counts

    def is_kept(self, instance: Instance, variant: Variant) -> bool:
        """Whether giving that replica up would leave too few."""
        few = 0 < self.bound(variant).least >= len(self.healthy(variant))
        return few and instance in self.servers(variant)

    def needs_keeping(self, variant: Variant) -> bool:
        """Whether its load was asked for by nothing but the operator's wish."""
        return self.live()[variant] <= self.bound(variant).least

    def has_free_slot(self, instance: Instance, variant: Variant) -> bool:
        """Whether a request could be answered there at once."""
        world = self.worlds[instance]
        held = world.held.get(variant)
        usable = held is not None and world.view.ready and not held.faulty and variant in world.view.servable
        there = held is not None and (instance, variant) not in self.draining()
        return usable and there and held is not None and world.busy(variant) < held.resident.slots

    # What only the scheduler knows --------------------------------------------------------

    def draining(self) -> set[Key]:
        """Return the replicas that get no more requests."""
        return {
            (worker.view.instance, variant)
            for worker in self.scheduler.workers
            for variant, replica in worker.replicas.items()
            if replica.draining and replica.phase == "resident"
        }

    def over(self) -> set[str]:
        """Return the tenants that were over their share when they were last heard of."""
        return set(self.scheduler._state.tenants.over)

    def coming(self) -> set[Key]:
        """Return what is being loaded, or planned until its victims are gone."""
        return {(w.view.instance, w.coming) for w in self.scheduler.workers if w.coming is not None}

    def _expected_slots(self, instance: Instance, variant: Variant) -> int:
        worker = next(worker for worker in self.scheduler.workers if worker.view.instance == instance)
        slots: int = worker.replicas[variant].slots
        return slots

    def live_keys(self) -> set[Key]:
        """Return the replicas that take requests, or will."""
        workers = self.scheduler.workers
        return {(w.view.instance, v) for w in workers for v, r in w.replicas.items() if r.live}

    def live_on(self, variant: Variant) -> set[Instance]:
        """Return where the model takes requests, or will."""
        return {instance for instance, held in self.live_keys() if held == variant}

    def sets(self, variant: Variant) -> set[frozenset[Instance]]:
        """Return the sets of workers from which requests for the model are barred."""
        return {request.barred for request in self.queue(variant)}

    def live(self) -> Counter[Variant]:
        """Return how many replicas take requests, or will."""
        return Counter(variant for _, variant in self.live_keys())
