"""How long the scheduler thinks about one event in a fleet far larger than any box.

1000 workers, 1000 models and 100,000 waiting requests: hot models with long queues, and cold ones that are
loaded for a request or two and evicted again, so that a good part of all events begins a load.
"""

from __future__ import annotations

import gc
import heapq
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.scheduler import Scheduler
from gateway.scheduling.types import (
    Answering,
    Arrived,
    DeadlinePassed,
    Effect,
    Event,
    Finished,
    FleetChanged,
    Grant,
    Load,
    Loaded,
    ReplicaBounds,
    Resident,
    Unload,
    Unloaded,
    WorkerView,
)

HOT: Final = 50
"""Models with long queues; each may be held by so many workers as leave most room to the others."""
HOT_REPLICAS: Final = 14
TENANTS: Final = 10
GB: Final = 10**9


@dataclass(slots=True)
class Fleet:
    """Workers that do what they are told, in virtual time."""

    rng: random.Random
    models: list[Variant]
    sizes: dict[Variant, int]
    hot: frozenset[Variant]
    now: float = 0.0
    count: int = 0
    due: list[tuple[float, int, Event]] = field(default_factory=list)
    loads: int = 0

    def obey(self, effects: list[Effect]) -> None:
        """Enter what the effects lead to; every granted request is followed by a new one."""
        for effect in effects:
            match effect:
                case Grant():
                    hot = effect.variant in self.hot
                    answer_s = self.rng.expovariate(1 / 60) if hot else self.rng.expovariate(2)
                    self.at(self.rng.expovariate(5.0), Answering(effect.request))
                    self.at(0.5 + answer_s, Finished(effect.request, 200, 500))
                    self.at(self.rng.expovariate(100.0), self.arrival(hot=hot))
                case Load():
                    self.loads += 1
                    size = self.sizes[effect.variant]
                    resident = Resident(slots=4, size_bytes=size, size_vram_bytes=size, context_length=4096)
                    done = Loaded(effect.instance, effect.variant, resident)
                    self.at(1 + size / (20 * GB), done)
                case Unload():
                    self.at(0.2, Unloaded(effect.instance, effect.variant))

    def at(self, delay_s: float, event: Event) -> None:
        """Have an event come later."""
        self.count += 1
        heapq.heappush(self.due, (self.now + delay_s, self.count, event))

    def arrival(self, *, hot: bool) -> Arrived:
        """Return a new request; it arrives when it is fed."""
        model = self.rng.choice(self.models[:HOT] if hot else self.models[HOT:])
        self.count += 1
        return Arrived(
            request=RequestId(f"r{self.count}"),
            variant=model,
            arrived_at=self.now,
            deadline=self.now + 1e6,
            tenant=f"t{self.count % TENANTS}",
            prompt_tokens=500,
        )

    def events(self, scheduler: Scheduler) -> Iterator[Event]:
        """Yield what happens, in order of time, with the scheduler's own deadlines in between."""
        while True:
            deadline = scheduler.next_deadline(self.now)
            if deadline is not None and deadline < self.due[0][0]:
                self.now = deadline
                yield DeadlinePassed()
            else:
                self.now, _, event = heapq.heappop(self.due)
                yield event


def decisions(*, workers: int, models: int, queued: int, events: int, seed: int = 1) -> dict[str, Any]:
    """Return what single decisions took, once the fleet is full and the queues are long.

    In microseconds of processor time: a decision is arithmetic, and other processes are no part of it.
    """
    rng = random.Random(seed)  # noqa: S311 -- a workload, not a secret
    variants = [Variant(f"m{number}") for number in range(models)]
    sizes = {variant: (8 if number < HOT else 16) * GB for number, variant in enumerate(variants)}
    scheduler, fleet = Scheduler(), Fleet(rng, variants, sizes, frozenset(variants[:HOT]))
    views = tuple(_view(number, sizes) for number in range(workers))
    bounds = {variant: ReplicaBounds(most=HOT_REPLICAS) for variant in variants[:HOT]}
    fleet.obey(scheduler.handle(FleetChanged(views, bounds), 0.0))
    for _number in range(queued):
        fleet.now += 1e-4
        fleet.obey(scheduler.handle(fleet.arrival(hot=True), fleet.now))
    for _ in range(workers // 3):
        fleet.at(rng.random(), fleet.arrival(hot=False))
    stream = fleet.events(scheduler)
    for _ in range(30 * workers):
        fleet.obey(scheduler.handle(next(stream), fleet.now))
    return _measure(scheduler, fleet, stream, events)


def _view(number: int, sizes: dict[Variant, int]) -> WorkerView:
    return WorkerView(
        instance=Instance(f"gpu{number}", 1),
        ready=True,
        num_parallel=4,
        max_loaded_models=3,
        max_queue=10_000,
        keep_alive_s=300.0,
        memory_bytes=22 * GB,
        device="bench",
        servable=sizes,
    )


def _measure(scheduler: Scheduler, fleet: Fleet, stream: Iterator[Event], events: int) -> dict[str, Any]:
    before, took = fleet.loads, []
    gc.collect()
    gc.freeze()
    gc.disable()
    for _ in range(events):
        event = next(stream)
        started = time.thread_time_ns()
        effects = scheduler.handle(event, fleet.now)
        took.append((time.thread_time_ns() - started) / 1000)
        fleet.obey(effects)
    gc.enable()
    took.sort()
    return {
        "events": events,
        "queued": scheduler.total_queued,
        "loads_per_event": (fleet.loads - before) / events,
        "decision_us": {
            "p50": took[events // 2],
            "p99": took[events * 99 // 100],
            "max": took[-1],
            "mean": sum(took) / events,
        },
    }
