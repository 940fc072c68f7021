"""The hardware model: workers that hold models, share their GPU among them, and take time to load.

- A worker's GPU is shared evenly by the models that compute on it at this moment.
- A model that reads prompts and writes answers at once spends half of its share on each; prompts share
  their part evenly; n answers in a batch get 1 / (1 + slowdown * (n - 1)) of the speed of one each.
- A load takes a constant and the model's bytes; one load a worker at a time. It takes nothing of a GPU's
  time; on a CPU it shares the cores with k models that compute as if it were `load_weight` of them: each
  gets 1 / (k + weight) of the time, and the load goes at 1 / (1 + weight * k) of its speed.

The rules are enforced: a policy that oversteps slots or memory, or starts a second load, is stopped by
`RuleBrokenError`. Progress is kept as one clock a phase and replica (the seconds of GPU that each request
in the phase got since it began), so that a change costs the models that are active and not their requests.
Knows no policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple

from gateway.simulate.model import Fleet, Job, Model, Request, Speeds, WorkerPlan


class RuleBrokenError(Exception):
    """A policy asked for what the hardware cannot do."""


@dataclass(slots=True, eq=False)
class Replica:
    """A model on a worker: coming, ready or leaving."""

    model: Model
    speeds: Speeds
    since: float
    """When its load began, then when it became ready."""
    last_used: float
    ready: bool = False
    leaving: bool = False
    running: int = 0
    """Requests in its slots."""
    prefill: list[tuple[float, int, Job]] = field(default_factory=list)
    """A heap of prompts being read, by the clock at which each is done."""
    prefill_clock: float = 0.0
    prefill_rate: float = 0.0
    decode: list[tuple[float, int, Job]] = field(default_factory=list)
    """The same for answers being written."""
    decode_clock: float = 0.0
    decode_rate: float = 0.0

    @property
    def free_slots(self) -> int:
        """Requests that could start now."""
        return self.model.slots - self.running if self.ready and not self.leaving else 0


@dataclass(slots=True, eq=False)
class Worker:
    """One GPU with what it holds. Policies look at it and change it through `Machine` only."""

    index: int
    plan: WorkerPlan
    replicas: dict[Model, Replica] = field(default_factory=dict)
    active: list[Replica] = field(default_factory=list)
    """Those with requests in their slots."""
    used_bytes: int = 0
    running: int = 0
    """Requests in slots."""
    loading: Replica | None = None
    load_left_s: float = 0.0
    """What is left of the load when nothing computes beside it; kept only where that matters."""
    load_rate: float = 1.0
    unbounded: bool = False
    """Holds everything: for the ceiling that policies are measured against."""
    busy_s: float = 0.0
    """Time in which it computed anything."""
    updated_at: float = 0.0
    version: int = 0

    @property
    def free_bytes(self) -> int:
        """Memory that nothing holds."""
        return self.plan.memory_bytes - self.used_bytes

    def can_ever_hold(self, model: Model) -> bool:
        """Whether the model fits when nothing else is there."""
        return self.unbounded or model.size_bytes <= self.plan.memory_bytes

    def has_room(self, model: Model) -> bool:
        """Whether the model fits beside what is there."""
        few = len(self.replicas) < self.plan.max_loaded_models
        return self.unbounded or (few and model.size_bytes <= self.free_bytes)

    def advance(self, now: float) -> None:
        """Let the time pass that went by since the last change."""
        passed = now - self.updated_at
        self.updated_at = now
        self.load_left_s -= self.load_rate * passed
        if self.active and passed > 0:
            self.busy_s += passed
            for replica in self.active:
                replica.prefill_clock += replica.prefill_rate * passed
                replica.decode_clock += replica.decode_rate * passed

    def share_out(self) -> tuple[float, Replica | Loaded | None, bool]:
        """Set each phase's speed; return in how many seconds which phase loses its first request.

        Or the load ends, which then has no replica.
        """
        soonest, reading = inf, False
        whose: Replica | Loaded | None = None
        crowd = float(len(self.active))
        if self.loading is not None and self.plan.load_weight:
            self.load_rate = 1 / (1 + self.plan.load_weight * crowd)
            crowd += self.plan.load_weight
            soonest, whose = self.load_left_s / self.load_rate, Loaded(self, self.loading)
        slowdown = self.plan.batch_slowdown
        for replica in self.active:
            share = 1.0 / crowd
            if replica.prefill and replica.decode:
                share *= 0.5
            if replica.prefill:
                replica.prefill_rate = share / len(replica.prefill)
                left = (replica.prefill[0][0] - replica.prefill_clock) / replica.prefill_rate
                if left < soonest:
                    soonest, whose, reading = left, replica, True
            if replica.decode:
                replica.decode_rate = share / (1.0 + slowdown * (len(replica.decode) - 1))
                left = (replica.decode[0][0] - replica.decode_clock) / replica.decode_rate
                if left < soonest:
                    soonest, whose, reading = left, replica, False
        return max(soonest, 0.0), whose, reading


class Loaded(NamedTuple):
    """A load is done."""

    worker: Worker
    replica: Replica


class Unloaded(NamedTuple):
    """A model has left a worker's memory."""

    worker: Worker
    model: Model


class PromptRead(NamedTuple):
    """A request's first token comes."""

    job: Job


class AnswerWritten(NamedTuple):
    """A request gave its slot back."""

    worker: Worker
    job: Job


Happening = Loaded | Unloaded | PromptRead | AnswerWritten
_Step = tuple[float, int, Worker, int, "Replica | Loaded | Unloaded", bool]


class Machine:
    """All workers of a box, and what will happen on them next."""

    def __init__(self, fleet: Fleet, jobs: Sequence[Job]) -> None:
        """`jobs` by their requests' index."""
        self.models = fleet.models
        self.workers = tuple(Worker(at, plan) for at, plan in enumerate(fleet.workers))
        self.now = 0.0
        self.loads = 0
        self._jobs = jobs
        self._steps: list[_Step] = []
        self._number = 0
        self._changed: list[Worker] = []

    # What policies do -------------------------------------------------------------

    def start(self, request: Request, worker: Worker) -> None:
        """Give the request a slot; it begins to read its prompt.

        Raises:
            RuleBrokenError: no replica there has a free slot.
        """
        replica = worker.replicas.get(request.model)
        if replica is None or replica.free_slots <= 0:
            raise RuleBrokenError(f"{request.model.name} has no free slot on {worker.plan.name}")
        job = self._jobs[request.index]
        worker.advance(self.now)
        job.granted_at = replica.last_used = self.now
        if not replica.running:
            worker.active.append(replica)
        replica.running += 1
        worker.running += 1
        work_s = request.prompt_tokens / replica.speeds.prefill_tokens_per_s
        self._number += 1
        heappush(replica.prefill, (replica.prefill_clock + work_s, self._number, job))
        self._changed.append(worker)

    def load(self, model: Model, worker: Worker) -> None:
        """Begin to load a model; `Loaded` happens when it is done.

        Raises:
            RuleBrokenError: there is no room, the model is there already, or another load runs.
        """
        if worker.loading is not None or model in worker.replicas or not worker.has_room(model):
            raise RuleBrokenError(
                f"{worker.plan.name} cannot load {model.name}: {worker.free_bytes} of "
                f"{worker.plan.memory_bytes} bytes free, {model.size_bytes} needed, {len(worker.replicas)} "
                f"models held, a load {'runs' if worker.loading else 'does not run'}"
            )
        speeds = worker.plan.speeds[model.index]
        replica = Replica(model, speeds, since=self.now, last_used=self.now)
        worker.replicas[model] = worker.loading = replica
        worker.used_bytes += model.size_bytes
        self.loads += 1
        if worker.plan.load_weight:
            worker.advance(self.now)
            worker.load_left_s = speeds.load_s
            self._changed.append(worker)
        else:
            self._later(speeds.load_s, worker, Loaded(worker, replica))

    def unload(self, model: Model, worker: Worker) -> None:
        """Take a model that nobody uses away; `Unloaded` happens when its memory is free.

        Raises:
            RuleBrokenError: the model is not there, in use, still loading or leaving already.
        """
        replica = worker.replicas.get(model)
        if replica is None or not replica.ready or replica.running or replica.leaving:
            raise RuleBrokenError(f"{model.name} cannot be unloaded from {worker.plan.name}: {replica}")
        replica.leaving = True
        self._later(worker.plan.unload_s, worker, Unloaded(worker, model))

    def granted_at(self, request: Request) -> float:
        """When the request got its slot."""
        return self._jobs[request.index].granted_at

    def hold_everything(self) -> None:
        """Let every worker hold every model from now on, whatever they take: a ceiling to measure against."""
        for worker in self.workers:
            worker.unbounded = True
            for model in self.models:
                speeds = worker.plan.speeds[model.index]
                worker.replicas[model] = Replica(model, speeds, self.now, self.now, ready=True)

    # What happens by itself -------------------------------------------------------

    def next_at(self) -> float:
        """When something happens next; infinity when nothing will."""
        self._share_out_anew()
        steps = self._steps
        while steps and steps[0][3] != steps[0][2].version and steps[0][3] >= 0:
            heappop(steps)
        return steps[0][0] if steps else inf

    def step(self) -> Happening:
        """Let the next thing happen, of which `next_at` told, and return it."""
        at, _, worker, _, what, reading = heappop(self._steps)
        self.now = at
        match what:
            case Replica():
                worker.advance(at)
                self._changed.append(worker)
                return self._prompt_read(what) if reading else self._answer_written(worker, what)
            case Loaded(replica=replica):
                worker.loading = None
                if worker.plan.load_weight:
                    worker.advance(at)
                    self._changed.append(worker)
                replica.ready = True
                replica.since = replica.last_used = at
            case Unloaded(model=model):
                del worker.replicas[model]
                worker.used_bytes -= model.size_bytes
        return what

    def _prompt_read(self, replica: Replica) -> PromptRead:
        _, number, job = heappop(replica.prefill)
        if not replica.prefill:
            replica.prefill_clock = replica.prefill_rate = 0.0
        token_s = 1.0 / replica.speeds.decode_tokens_per_s
        job.first_token_at = self.now + token_s
        heappush(replica.decode, (replica.decode_clock + job.output_tokens * token_s, number, job))
        return PromptRead(job)

    def _answer_written(self, worker: Worker, replica: Replica) -> AnswerWritten:
        _, _, job = heappop(replica.decode)
        if not replica.decode:
            replica.decode_clock = replica.decode_rate = 0.0
        job.finished_at = replica.last_used = self.now
        replica.running -= 1
        worker.running -= 1
        if not replica.running:
            worker.active.remove(replica)
        return AnswerWritten(worker, job)

    def _later(self, seconds: float, worker: Worker, what: Loaded | Unloaded) -> None:
        self._number += 1
        heappush(self._steps, (self.now + seconds, self._number, worker, -1, what, False))

    def _share_out_anew(self) -> None:
        """Foretell the next change of every worker that changed; what was foretold before is void."""
        for worker in self._changed:
            worker.version += 1
            seconds, what, reading = worker.share_out()
            if what is not None:
                self._number += 1
                at = self.now + seconds
                heappush(self._steps, (at, self._number, worker, worker.version, what, reading))
        self._changed.clear()
