"""What is simulated: models, the speeds they have on a worker, requests and what became of them.

Plain data. Sizes in bytes, times in seconds of simulated time. Knows neither policies nor hardware rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A model, by its place in the scenario's list. Compared by identity, which is what is quick."""

    index: int
    name: str
    size_bytes: int
    slots: int
    """Requests that a replica of it computes at once."""


@dataclass(frozen=True, slots=True)
class Speeds:
    """What one model reaches on one worker."""

    prefill_tokens_per_s: float
    """Of one prompt with nothing beside it."""
    decode_tokens_per_s: float
    """Of one answer with nothing beside it."""
    load_s: float


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """A worker before anything runs on it."""

    name: str
    device: str
    """Workers with the same text are equally fast."""
    memory_bytes: int
    max_loaded_models: int
    batch_slowdown: float
    """By how much each further sequence in a batch slows a step of decoding, as a share."""
    unload_s: float
    speeds: tuple[Speeds, ...]
    """By the model's index."""
    load_weight: float = 0.0
    """As how many models that compute a load counts: it slows them, and they slow it."""
    speed: float = 1.0
    """As a factor of the normal speed; `speeds` has it in them already."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the requests run on."""

    models: tuple[Model, ...]
    workers: tuple[WorkerPlan, ...]

    @property
    def power(self) -> float:
        """How many workers of normal speed it is worth."""
        return sum(worker.speed for worker in self.workers)

    def work_s(self, model: Model, prompt: float, output: float) -> float:
        """Return the seconds of a worker of normal speed that a request takes while all batches are full."""
        worker = self.workers[0]
        speeds = worker.speeds[model.index]
        batch = (1 + worker.batch_slowdown * (model.slots - 1)) / model.slots
        seconds = prompt / speeds.prefill_tokens_per_s + output / speeds.decode_tokens_per_s * batch
        return seconds * worker.speed


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What a policy may know of a request: everything but the length of its answer."""

    index: int
    arrived_at: float
    model: Model
    tenant: str
    prompt_tokens: int
    session: str = ""
    """Requests of one conversation; empty is none."""
    background: bool = False
    """Nobody waits for the answer at a screen."""


@dataclass(slots=True, eq=False)
class Job:
    """A request with the length of its answer, and what became of it."""

    request: Request
    output_tokens: int
    granted_at: float = nan
    first_token_at: float = nan
    finished_at: float = nan

    @property
    def waited_s(self) -> float:
        """From arrival until it had a slot."""
        return self.granted_at - self.request.arrived_at

    @property
    def ttft_s(self) -> float:
        """Time to first token, from arrival."""
        return self.first_token_at - self.request.arrived_at

    @property
    def latency_s(self) -> float:
        """From arrival to the last token."""
        return self.finished_at - self.request.arrived_at
