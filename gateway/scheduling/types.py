"""The words of the scheduler: what it is told (events), what it answers (effects), and why.

Plain data that nobody changes. Times are monotonic seconds that the caller supplies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from gateway.scheduling.names import NOWHERE, Instance, RequestId, Variant
from gateway.scheduling.reasons import GrantReason, LoadReason
from supervisor.contract.config import SchedulingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A loaded model as its worker reports it."""

    slots: int
    """Answers that it really computes at once."""
    size_bytes: int
    size_vram_bytes: int
    context_length: int
    """Tokens per slot."""
    fault: str = ""
    """Why it must not stay as it is, with the numbers: spilled to the CPU, or a shrunken context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A worker as far as scheduling is concerned."""

    instance: Instance
    ready: bool
    num_parallel: int
    """Slots to expect of a model that is not loaded yet."""
    max_loaded_models: int
    max_queue: int
    keep_alive_s: float | None
    """For models whose requests do not say; None is for ever."""
    memory_bytes: int
    device: str = ""
    """What it computes on, such as NVIDIA L4: speeds are learned per model and device."""
    one_per_weights: bool = False
    """It cannot hold two variants of the same weights side by side."""
    dedicated: bool = False
    """It serves only some models, so that these are loaded here rather than elsewhere."""
    servable: Mapping[Variant, int] = field(default_factory=dict)
    """The models it may serve, with the bytes each is estimated to take once loaded."""


class RejectReason(StrEnum):
    """Why a request gets no slot at all."""

    UNKNOWN_MODEL = "unknown_model"
    QUEUE_FULL = "queue_full"
    DEADLINE = "deadline"
    BARRED = "barred"
    """No worker is left that it may go to, though some have the model."""
    LOAD_FAILED = "load_failed"
    NO_MEMORY = "no_memory"


@dataclass(frozen=True, slots=True)
class Rejection:
    """The reason, and a sentence with the numbers or the engine's own words."""

    reason: RejectReason
    message: str


# Events ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A request wants a slot; also one that comes back after a failed attempt."""

    request: RequestId
    variant: Variant
    arrived_at: float
    """Of the first attempt, so that a retry stands where it stood."""
    deadline: float
    """When it is given up if it still waits."""
    keep_alive_s: float | None = None
    keep_alive_given: bool = False
    """Whether the client said how long the model is to stay; then `keep_alive_s` None is for ever."""
    avoid: frozenset[Instance] = frozenset()
    """Where it failed before; used again only when nothing else can serve."""
    barred: frozenset[Instance] = NOWHERE
    """Where it can never be served, so that it is neither sent nor loaded for there."""
    tenant: str = ""
    """Whose it is: slots of a model are shared fairly among those who wait for it."""
    session: str = ""
    """Requests of one conversation, whose prefix a worker may still have cached; empty is none."""
    prompt_tokens: int = 0
    """As far as it can be told from the request."""
    background: bool = False
    """Nobody looks at a screen for it: it counts as one that cannot meet the goal any more."""
    admitted: bool = False
    """Another gateway has let it in already: the queue is never too full for it."""
    probe: bool = False
    """It only asks whether the worker lives: the model stays no longer for its sake."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """Another gateway has given the request a slot there, which ends here as any other does.

    Told before the worker may be given anything to do here, so that no slot is given twice.
    """

    request: Arrived
    instance: Instance
    granted_at: float


@dataclass(frozen=True, slots=True)
class Left:
    """The client went away, waiting or granted. Idempotent."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class Answering:
    """The first token is there: the prompt is read."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class Finished:
    """The slot is not needed any more. Idempotent."""

    request: RequestId
    output_tokens: int | None = None
    """As the worker counted them; None when it did not say, or the answer broke off."""
    prompt_tokens: int | None = None
    """The same for the prompt."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A load that was asked for is done."""

    instance: Instance
    variant: Variant
    resident: Resident


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A load that was asked for came to nothing."""

    instance: Instance
    variant: Variant
    message: str
    lasting: bool
    """The engine refused the model, so that trying again there at once is pointless."""
    out_of_memory: bool = False
    """It did so for lack of memory: the model takes more than was planned."""


@dataclass(frozen=True, slots=True)
class RanOutOfMemory:
    """A loaded model failed an answer because memory ran out: it takes more than it said."""

    instance: Instance
    variant: Variant
    message: str
    """The engine's own words."""


@dataclass(frozen=True, slots=True)
class Unloaded:
    """An unload that was asked for is done."""

    instance: Instance
    variant: Variant


@dataclass(frozen=True, slots=True)
class Observed:
    """All that a worker holds, seen there. It wins over what was believed."""

    instance: Instance
    residents: Mapping[Variant, Resident]


@dataclass(frozen=True, slots=True)
class ReplicaBounds:
    """On how many workers a model is to be held."""

    least: int = 0
    """So many are loaded unasked and never given up; a pinned model has at least one."""
    most: int | None = None
    """No more than this at once; None is no bound."""


@dataclass(frozen=True, slots=True)
class FleetChanged:
    """All workers, whole, and what the operator wants of single models."""

    workers: tuple[WorkerView, ...]
    bounds: Mapping[Variant, ReplicaBounds] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """The operator wants other constants; what was learned and who holds a slot stays."""

    policy: SchedulingConfig


@dataclass(frozen=True, slots=True)
class UnloadAsked:
    """A client asks that a model leave memory as soon as it is idle."""

    variant: Variant


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The moment that `Scheduler.next_deadline` named has come."""


Event = (
    Arrived
    | Adopted
    | Left
    | Answering
    | Finished
    | Loaded
    | LoadFailed
    | RanOutOfMemory
    | Unloaded
    | Observed
    | FleetChanged
    | PolicyChanged
    | UnloadAsked
    | DeadlinePassed
)

# Effects: tuples are made fastest -----------------------------------------------


class Grant(NamedTuple):
    """The request has a slot there until `Finished` or `Left`."""

    request: RequestId
    instance: Instance
    variant: Variant
    queued_s: float
    reason: GrantReason

    @property
    def why(self) -> str:
        """The reason in words."""
        return str(self.reason)


class Load(NamedTuple):
    """Load the model there, then report `Loaded` or `LoadFailed`."""

    instance: Instance
    variant: Variant
    reason: LoadReason

    @property
    def why(self) -> str:
        """The reason in words."""
        return str(self.reason)


class Unload(NamedTuple):
    """Unload the model there, then report `Unloaded`. No request holds a slot of it."""

    instance: Instance
    variant: Variant
    why: str
    in_favour_of: Variant | None = None
    """What is to be loaded in its place."""


class Reject(NamedTuple):
    """The request gets no slot."""

    request: RequestId
    rejection: Rejection


Effect = Grant | Load | Unload | Reject
