"""Runs a workload on a fleet under a policy, event by event, until every request is answered.

Decides only the order of events: at one moment arrivals come first, then what happens on the machine,
then the policy's own timer. The same arguments give the same result to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isinf
from random import Random

from gateway.simulate.machine import AnswerWritten, Happening, Loaded, Machine, PromptRead, Unloaded
from gateway.simulate.model import Fleet, Job
from gateway.simulate.policies.policy import Policy


class StalledError(Exception):
    """Requests wait and nothing will ever happen: the policy lost them."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of it."""

    jobs: Sequence[Job]
    """In the order of arrival."""
    loads: int
    busy_s: tuple[float, ...]
    """By worker: time in which it computed."""
    ended_at: float


PolicyMaker = Callable[[Machine, Random], Policy]


def simulate(fleet: Fleet, jobs: Sequence[Job], policy: PolicyMaker, seed: int) -> Run:
    """Return what becomes of `jobs`, which are in the order of arrival, and are filled in.

    Raises:
        StalledError: the policy leaves requests waiting for ever.
        RuleBrokenError: the policy oversteps what the hardware can do.
    """
    machine = Machine(fleet, jobs)
    chance = Random(seed)  # noqa: S311 -- a simulation is to be repeatable
    return _Simulation(machine, jobs, policy(machine, chance)).run()


class _Simulation:
    def __init__(self, machine: Machine, jobs: Sequence[Job], policy: Policy) -> None:
        self._machine = machine
        self._jobs = jobs
        self._policy = policy
        self._unfinished = len(jobs)

    def run(self) -> Run:
        machine, policy = self._machine, self._policy
        for job in self._jobs:
            self._until(job.request.arrived_at)
            machine.now = job.request.arrived_at
            policy.arrived(job.request)
        self._until(inf)
        busy_s = tuple(worker.busy_s for worker in machine.workers)
        return Run(self._jobs, machine.loads, busy_s, machine.now)

    def _until(self, limit: float) -> None:
        """Let everything happen that comes before `limit`, or until all is done."""
        machine, policy = self._machine, self._policy
        while self._unfinished:
            at = machine.next_at()
            if policy.wake_at < at:
                if policy.wake_at >= limit:
                    return
                self._wake()
            elif at < limit:
                self._tell(machine.step())
            elif isinf(limit):
                raise StalledError(f"{self._unfinished} requests wait and nothing happens any more")
            else:
                return

    def _wake(self) -> None:
        machine, policy = self._machine, self._policy
        machine.now = policy.wake_at
        policy.woken()
        if policy.wake_at <= machine.now:
            raise StalledError(f"woken at {machine.now} s, the policy wants to be woken then again")

    def _tell(self, happening: Happening) -> None:
        policy = self._policy
        match happening:
            case PromptRead(job):
                policy.answering(job.request)
            case AnswerWritten(worker, job):
                self._unfinished -= 1
                policy.finished(job.request, worker, job.output_tokens)
            case Loaded(worker, replica):
                policy.loaded(replica.model, worker)
            case Unloaded(worker, model):
                policy.unloaded(model, worker)
