"""A scheduler, a clock, and a world that loads and unloads at once unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, ClassVar

from gateway.scheduling import scheduler
from gateway.scheduling.estimates import ModelLearned
from gateway.scheduling.names import Instance, RequestId, Variant
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
    Reject,
    ReplicaBounds,
    Resident,
    Unload,
    Unloaded,
    WorkerView,
)
from supervisor.contract.config import SchedulingConfig

A, B, C = Variant("a"), Variant("b"), Variant("c")
W0, W1, W2 = Instance("w0", 1), Instance("w1", 1), Instance("w2", 1)
SIZES: Mapping[Variant, int] = {A: 4, B: 4, C: 4}
NO_TENANT = ""
FIVE_SECONDS = ModelLearned(
    fast_rate=0.0,
    slow_rate=0.0,
    output_tokens=None,
    load_s={},
    service_s={"*": 5.0},
    prefill_tokens_per_s={},
    size_bytes=None,
)
"""All that is known of a model: what its answers take on whatever device."""


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


def resident(slots: int, *, size: int = 4, fault: str = "") -> Resident:
    """What a worker reports of a loaded model."""
    return Resident(slots=slots, size_bytes=size, size_vram_bytes=size, context_length=64, fault=fault)


@dataclass
class Stage:
    """What is told to the scheduler, and all that it answered."""

    module: ClassVar[ModuleType] = scheduler
    """Where the scheduler is from; a faulty one now and then."""

    workers: Sequence[WorkerView]
    bounds: Mapping[Variant, ReplicaBounds] = field(default_factory=dict)
    policy: SchedulingConfig = field(default_factory=SchedulingConfig)
    obeys: bool = True
    knows_answers: bool = False
    """Whether an answer of each model was measured before."""
    now: float = 0.0
    count: int = 0
    scheduler: Any = None
    seen: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = self.module.Scheduler(self.policy)
        if self.knows_answers:
            self.scheduler.estimates.restore(dict.fromkeys(SIZES, FIVE_SECONDS), 0.0, self.now)
        self.tell_fleet(*self.workers)

    def tell_fleet(self, *workers: WorkerView) -> None:
        """Tell of all workers."""
        self.workers = workers
        self.feed(FleetChanged(tuple(workers), self.bounds))

    def feed(self, event: Event) -> list[Effect]:
        """Give an event and obey."""
        effects: list[Effect] = self.scheduler.handle(event, self.now)
        self.seen += effects
        for effect in effects if self.obeys else ():
            match effect:
                case Load():
                    slots = next(w.num_parallel for w in self.workers if w.instance == effect.instance)
                    self.feed(Loaded(effect.instance, effect.variant, resident(slots)))
                case Unload():
                    self.feed(Unloaded(effect.instance, effect.variant))
        return effects

    def arrive(self, variant: Variant, tenant: str = NO_TENANT, **more: Any) -> RequestId:
        """Let a request come."""
        self.count += 1
        name = RequestId(f"r{self.count}")
        arrived_at = more.pop("arrived_at", self.now)
        deadline = more.pop("deadline", self.now + 600)
        self.feed(
            Arrived(
                request=name, variant=variant, arrived_at=arrived_at, deadline=deadline, tenant=tenant, **more
            )
        )
        return name

    def use(self, variant: Variant, tenant: str = NO_TENANT, **more: Any) -> RequestId:
        """Let a request come and end at once."""
        request = self.arrive(variant, tenant, **more)
        self.finish(request)
        return request

    def finish(self, request: RequestId, output: int | None = None) -> None:
        """Let an answer end."""
        self.feed(Finished(request, output_tokens=output))

    def answer(self, request: RequestId) -> None:
        """Let an answer begin."""
        self.feed(Answering(request))

    def later(self, seconds: float) -> None:
        """Sleep as the shell does: from one named deadline to the next."""
        end = self.now + seconds
        while (due := self.scheduler.next_deadline(self.now)) is not None and due <= end:
            self.now = due
            self.feed(DeadlinePassed())
        self.now = end

    def kinds(self) -> list[str]:
        """Return the kinds of all effects, in order."""
        return [type(effect).__name__ for effect in self.seen]

    def loads(self) -> list[tuple[str, str]]:
        """Return where what was loaded, in order."""
        return [(e.instance.worker, e.variant.digest) for e in self.seen if isinstance(e, Load)]

    def unloads(self) -> list[tuple[str, str]]:
        """Return where what was unloaded, in order."""
        return [(e.instance.worker, e.variant.digest) for e in self.seen if isinstance(e, Unload)]

    def grants(self) -> list[RequestId]:
        """Return who got a slot, in order."""
        return [effect.request for effect in self.seen if isinstance(effect, Grant)]

    def where(self, request: RequestId) -> str | None:
        """Return where the request got its slot."""
        grants = (e for e in self.seen if isinstance(e, Grant) and e.request == request)
        return next((grant.instance.worker for grant in grants), None)

    def refusal(self, request: RequestId) -> str | None:
        """Return why the request got none."""
        rejects = (e for e in self.seen if isinstance(e, Reject) and e.request == request)
        return next((str(reject.rejection.reason) for reject in rejects), None)


def without(worker: WorkerView, *gone: Variant) -> WorkerView:
    """Return the worker with fewer models to serve."""
    return replace(worker, servable={v: size for v, size in worker.servable.items() if v not in gone})
