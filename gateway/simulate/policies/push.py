"""Routers that give each request away at once, to workers that are Ollamas of one GPU each.

What they differ in is `pick`. `single-ollama`, one Ollama over all GPUs, needs no router.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from random import Random

from gateway.simulate.machine import Machine, Worker
from gateway.simulate.model import Model, Request
from gateway.simulate.policies.ollama import Ollama
from gateway.simulate.policies.policy import Policy


class SingleOllama(Policy):
    """One Ollama that sees all GPUs."""

    def __init__(self, machine: Machine, chance: Random) -> None:
        super().__init__(machine, chance)
        self._ollama = Ollama(machine, machine.workers)

    def arrived(self, request: Request) -> None:
        """Put it into the one queue."""
        self._ollama.add(request)

    def finished(self, request: Request, worker: Worker, output_tokens: int) -> None:  # noqa: ARG002 -- protocol
        """Use the slot."""
        self._ollama.finished(request.model, worker)

    def loaded(self, model: Model, worker: Worker) -> None:
        """Use the model."""
        self._ollama.loaded(model, worker)

    def unloaded(self, model: Model, worker: Worker) -> None:  # noqa: ARG002 -- protocol
        """Use the room."""
        self._ollama.proceed()


class Push(Policy):
    """Gives each request to a worker at once."""

    def __init__(self, machine: Machine, chance: Random) -> None:
        super().__init__(machine, chance)
        self.ollamas = {worker: Ollama(machine, [worker]) for worker in machine.workers}
        self._able = {
            model: tuple(worker for worker in machine.workers if worker.can_ever_hold(model))
            for model in machine.models
        }

    @abstractmethod
    def pick(self, request: Request, able: tuple[Worker, ...]) -> Worker:
        """Return the worker it goes to, among those that its model fits on."""

    def arrived(self, request: Request) -> None:
        """Give it away."""
        self.ollamas[self.pick(request, self._able[request.model])].add(request)

    def finished(self, request: Request, worker: Worker, output_tokens: int) -> None:  # noqa: ARG002 -- protocol
        """Let its worker go on."""
        self.ollamas[worker].finished(request.model, worker)

    def loaded(self, model: Model, worker: Worker) -> None:
        """Let the worker go on."""
        self.ollamas[worker].loaded(model, worker)

    def unloaded(self, model: Model, worker: Worker) -> None:  # noqa: ARG002 -- protocol
        """Let the worker go on."""
        self.ollamas[worker].proceed()

    def least_requests(self, workers: Iterable[Worker]) -> Worker:
        """Return the worker with the fewest unanswered requests; ties by chance."""
        return min(workers, key=lambda worker: (self.ollamas[worker].requests, self.chance.random()))


class RandomWorker(Push):
    """Any worker."""

    def pick(self, request: Request, able: tuple[Worker, ...]) -> Worker:  # noqa: ARG002 -- looks at nothing
        """Draw one."""
        return self.chance.choice(able)


class RoundRobin(Push):
    """One after the other."""

    _turn = 0

    def pick(self, request: Request, able: tuple[Worker, ...]) -> Worker:  # noqa: ARG002 -- looks at nothing
        """Take the next."""
        self._turn += 1
        return able[self._turn % len(able)]


class LeastConnections(Push):
    """The worker with the fewest unanswered requests."""

    def pick(self, request: Request, able: tuple[Worker, ...]) -> Worker:  # noqa: ARG002 -- looks at workers only
        """Compare all."""
        return self.least_requests(able)


class HashOfModel(Push):
    """Always the same worker for a model."""

    def pick(self, request: Request, able: tuple[Worker, ...]) -> Worker:
        """Hash the model by Knuth's multiplier."""
        return able[(request.model.index * 2654435761 >> 4) % len(able)]


class ResidentFirst(Push):
    """A worker that holds the model ready, else any; of these the one with the fewest requests."""

    def pick(self, request: Request, able: tuple[Worker, ...]) -> Worker:
        """Compare the holders, or all."""
        holders = [
            worker
            for worker in able
            if (replica := worker.replicas.get(request.model)) is not None and replica.ready
        ]
        return self.least_requests(holders or able)
