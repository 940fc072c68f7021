"""What each worker holds, loads and gives up, with the slots in use. State only; choices are made elsewhere.

A `Replica` is one model on one living process. Both sides count it: its `WorkerResidency` what room is
taken, its `ModelState` what slots there are. `settle` is the only place where those counts change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Final

from gateway.scheduling.estimates import ModelEstimates
from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.queues import ModelQueue
from gateway.scheduling.reasons import LoadReason
from gateway.scheduling.sharing import Sharing
from gateway.scheduling.types import ReplicaBounds, Resident, WorkerView


class Phase(StrEnum):
    """Where a replica is on its way through a worker's memory."""

    PLANNED = "planned"
    """Waits until its victims are gone; its room is spoken for."""
    LOADING = "loading"
    RESIDENT = "resident"
    UNLOADING = "unloading"
    GONE = "gone"


PLANNED: Final = Phase.PLANNED
LOADING: Final = Phase.LOADING
RESIDENT: Final = Phase.RESIDENT
UNLOADING: Final = Phase.UNLOADING
GONE: Final = Phase.GONE
"""For decisions: to look up an attribute of an enum takes ten times as long."""

COMING: Final = frozenset({PLANNED, LOADING})
"""For people who ask; an enum's hash is slow too."""


@dataclass(slots=True, kw_only=True, eq=False)
class Replica:
    """One model on one worker."""

    model: ModelState
    worker: WorkerResidency
    phase: Phase
    slots: int
    """Effective once resident, expected before that."""
    size_bytes: int
    """Measured once resident, estimated before that."""
    last_used: float
    """When it was loaded or its last request ended."""
    since: float
    """When the phase was entered."""
    resident: Resident | None = None
    busy: set[RequestId] = field(default_factory=set)
    wishes: dict[str, float] = field(default_factory=dict)
    """Until when it is to stay when idle, by the tenant who last said so; infinity is for ever."""
    draining: bool = False
    """Gets no more requests; unloaded when its last one ends."""
    fault: str = ""
    """Why it has to go, whatever is seen of it from then on."""
    unload_asked: bool = False
    """A client asked that it leave as soon as it is idle, and nobody has asked for it since."""
    victims: frozenset[Variant] = frozenset()
    """PLANNED only: what must be gone first."""
    reason: LoadReason | None = None
    """Why it was loaded; None when it was found there."""
    slots_counted: int = 0
    """Those that requests may hold, taken or free."""
    coming_counted: int = 0
    room_counted: int = 0
    active_counted: int = 0
    held_counted: bool = False
    live_counted: bool = False

    @property
    def load_s(self) -> float:
        """The seconds that loading it here again would take."""
        return self.model.learned.load_s(self.worker.instance.worker, self.size_bytes)

    @property
    def live(self) -> bool:
        """Whether it takes requests, or will once it is loaded."""
        phase = self.phase  # compared one by one: an enum's hash is slow
        if phase is UNLOADING or phase is GONE or self.draining:
            return False
        view = self.worker.view
        return view.ready and self.model.variant in view.servable

    @property
    def kept(self) -> bool:
        """Whether it must not be given up, by the operator's wish."""
        return self.model.bounds.least > 0 and self.model.kept and self.live

    @property
    def idle(self) -> bool:
        """Resident, and no request holds a slot."""
        return self.phase is RESIDENT and not self.busy

    @property
    def stays_until(self) -> float:
        """Until when its users want it to stay once it is idle; infinity is for ever."""
        return self.would_stay_until(self.last_used)

    def would_stay_until(self, last_used: float) -> float:
        """Return the same if it had been used last at that moment."""
        if self.unload_asked:
            return last_used
        default = self.worker.view.keep_alive_s
        unasked = inf if default is None else last_used + default
        return max(self.wishes.values()) if self.wishes else unasked

    def settle(self) -> None:
        """Bring the counts of its model and its worker up to date; to be called after every change."""
        model, worker, live = self.model, self.worker, self.live
        resident, gone = self.phase is RESIDENT, self.phase is GONE
        slots = self.slots if live and resident else 0
        if slots != self.slots_counted:
            model.slots += slots - self.slots_counted
            self.slots_counted = slots
        coming = self.slots if live and not resident else 0
        if coming != self.coming_counted:
            model.coming += coming - self.coming_counted
            self.coming_counted = coming
        room = 0 if gone else self.size_bytes
        if room != self.room_counted:
            worker.used_bytes += room - self.room_counted
            self.room_counted = room
        held = not gone and worker.view.ready
        if held is not self.held_counted:
            model.holders += held - self.held_counted
            self.held_counted = held
        if live is not self.live_counted:
            model.live_replicas += live - self.live_counted
            self.live_counted = live
        self.settle_slots()

    def settle_slots(self) -> None:
        """The same after nothing but a slot changed hands."""
        busy = len(self.busy)
        active = (self.size_bytes or 1) if busy else 0
        if active != self.active_counted:
            self.worker.active += (active > 0) - (self.active_counted > 0)
            self.worker.active_bytes += active - self.active_counted
            self.active_counted = active
        if self.slots_counted > busy:
            self.model.free[self.worker.instance] = self
        else:
            self.model.free.pop(self.worker.instance, None)


@dataclass(slots=True, eq=False)
class WorkerResidency:
    """A worker's limits and the replicas on it."""

    view: WorkerView
    instance: Instance = field(init=False)
    """The same whatever else of the view changes."""
    replicas: dict[Variant, Replica] = field(default_factory=dict)
    coming: Variant | None = None
    """The model that is being loaded or is about to be; a worker loads one at a time."""
    used_bytes: int = 0
    active: int = 0
    """Models that answer requests now."""
    active_bytes: int = 0
    """What those take."""
    reading: dict[RequestId, float] = field(default_factory=dict)
    """Prompts that are being read, in seconds that they need alone."""

    def __post_init__(self) -> None:
        self.instance = self.view.instance

    @property
    def busy(self) -> int:
        """Requests that hold a slot here."""
        return sum(len(replica.busy) for replica in self.replicas.values())

    @property
    def accepts_load(self) -> bool:
        """Whether it is up and loads nothing else."""
        return self.view.ready and self.coming is None

    def may_make_room(self, least_bytes: int) -> bool:
        """Whether so much might be free without draining what is busy for good cause."""
        held, view = len(self.replicas), self.view
        if self.active < held:
            return True
        if view.memory_bytes - self.used_bytes >= least_bytes and held < view.max_loaded_models:
            return True
        return self.holds_a_flood

    def may_have_room(self, need_bytes: int) -> bool:
        """Whether so much might be free once all has gone that is idle or only a flood keeps busy.

        No is certain, yes is not.
        """
        return self.view.memory_bytes - self.active_bytes >= need_bytes or self.holds_a_flood

    @property
    def holds_a_flood(self) -> bool:
        """Whether one of its models is flooded."""
        for replica in self.replicas.values():  # noqa: SIM110 -- a generator takes twice as long
            if replica.model.flooded_by is not None:
                return True
        return False

    def holds(self, variant: Variant) -> bool:
        """Whether the model is here or on its way, and not on its way out."""
        replica = self.replicas.get(variant)
        return replica is not None and replica.phase is not UNLOADING and not replica.draining


@dataclass(frozen=True, slots=True)
class Failure:
    """A load that came to nothing."""

    until: float
    """It is not tried again there before this."""
    message: str
    lasting: bool
    """The engine refused the model, or held it wrongly."""


_UNBOUNDED = ReplicaBounds()


@dataclass(slots=True, eq=False)
class ModelState:
    """A variant: who waits for it, where it is and may be."""

    variant: Variant
    number: int
    """Tells models apart in a ranking, in the order of their appearance."""
    queue: ModelQueue
    learned: ModelEstimates
    bounds: ReplicaBounds = _UNBOUNDED
    servers: dict[Instance, WorkerResidency] = field(default_factory=dict)
    """Workers that may serve it, ready or not."""
    replicas: dict[Instance, Replica] = field(default_factory=dict)
    free: dict[Instance, Replica] = field(default_factory=dict)
    """Replicas with a slot to grant."""
    slots: int = 0
    """Of all replicas that take requests, taken or free."""
    coming: int = 0
    """Of all replicas that are being loaded or about to be."""
    holders: int = 0
    """Living workers on which it is, if only on its way in or out."""
    live_replicas: int = 0
    """Those of them that take requests or will."""
    failures: dict[Instance, Failure] = field(default_factory=dict)
    strikes: dict[Instance, int] = field(default_factory=dict)
    """Lasting failures in a row."""
    queue_bound: int = 0
    """Requests that may wait."""
    too_large: str | None = None
    """The numbers, if no worker could ever hold it."""
    sharing: Sharing = field(default_factory=Sharing)
    measured_bytes: int | None = None
    """What it took when it was last resident."""
    typical_bytes: int = 1
    """What it takes on whatever worker, as far as that is known."""
    typical_load_s: float = 1.0
    typical_service_s: float = 1.0
    """Seconds that an answer holds its slot."""
    service_known: bool = False
    """Whether one was measured."""
    typical_output_tokens: float = 0.0
    flooded_by: str | None = None
    """A tenant over its share that has as many requests waiting as the model has slots."""
    held_since: float = inf
    """Since when its requests are held back for a fuller batch although a slot is free; infinity is not."""
    grants: int = 0
    known_slots: int | None = None
    """Of a replica, as it was when it was last resident."""
    looks_again_at: float = inf
    """The moment that an alarm is set for."""

    @property
    def guessed_bytes(self) -> int:
        """What it may take where it was never loaded; 0 if nobody says."""
        for worker in self.servers.values():
            return worker.view.servable.get(self.variant, 0)
        return 0

    @property
    def ready_servers(self) -> list[WorkerResidency]:
        """Workers that may serve it and are up."""
        return [worker for worker in self.servers.values() if worker.view.ready]

    @property
    def live(self) -> list[Replica]:
        """Replicas that take requests or will."""
        return [replica for replica in self.replicas.values() if replica.live]

    @property
    def kept(self) -> bool:
        """Whether none of its replicas may be given up, by the operator's wish."""
        least = self.bounds.least
        return bool(least) and sum(r.phase is RESIDENT for r in self.live) <= least

    @property
    def full(self) -> bool:
        """Whether as many workers hold it as may."""
        return self.bounds.most is not None and self.holders >= self.bounds.most


def quiet(workers: Iterable[WorkerResidency], instance: Instance) -> bool:
    """Whether nothing is loaded, unloaded or answered on that worker now, nor about to be."""
    worker = next((worker for worker in workers if worker.view.instance == instance), None)
    return worker is not None and all(replica.idle for replica in worker.replicas.values())
