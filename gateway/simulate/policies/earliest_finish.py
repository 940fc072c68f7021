"""The earliest estimated start, bound at arrival: the queue ahead plus the loads it has to wait for.

In the manner of ServerlessLLM, over workers that are Ollamas. Estimates of service times are learned.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Final

from gateway.simulate.machine import Machine, Replica, Worker
from gateway.simulate.model import Model, Request
from gateway.simulate.policies.push import Push

_FIRST_SERVICE_S: Final = 5.0
_SERVICE_GAIN: Final = 0.1
_LOAD_UNDER_WAY: Final = 0.5
"""The share of a load that is still to come, when one is seen."""
_BLOCKED_HEAD_S: Final = 2.0
"""For the line behind a request that waits for a load."""
_CROWD_S: Final = 0.3
"""For each request that shares the GPU."""


class EarliestFinish(Push):
    """The worker on which the request should start first."""

    def __init__(self, machine: Machine, chance: Random) -> None:
        super().__init__(machine, chance)
        self._service_s = dict.fromkeys(machine.models, _FIRST_SERVICE_S)
        self._sent: dict[Worker, Counter[Model]] = {worker: Counter() for worker in machine.workers}

    def pick(self, request: Request, able: tuple[Worker, ...]) -> Worker:
        """Compare the estimates and note where it goes."""
        worker = min(able, key=lambda worker: self._wait_s(request.model, worker))
        self._sent[worker][request.model] += 1
        return worker

    def finished(self, request: Request, worker: Worker, output_tokens: int) -> None:
        """Learn how long it was served."""
        self._sent[worker][request.model] -= 1
        served_s = self.machine.now - self.machine.granted_at(request)
        self._service_s[request.model] += _SERVICE_GAIN * (served_s - self._service_s[request.model])
        super().finished(request, worker, output_tokens)

    def _wait_s(self, model: Model, worker: Worker) -> float:
        ahead = max(0, self._sent[worker][model] + 1 - model.slots)
        wait_s = ahead * self._service_s[model] / model.slots
        replica = worker.replicas.get(model)
        if replica is None:
            wait_s += self._loads_s(model, worker) + self._eviction_s(model, worker)
        elif not replica.ready:
            wait_s += worker.plan.speeds[model.index].load_s * _LOAD_UNDER_WAY
        if self.ollamas[worker].pending:
            wait_s += _BLOCKED_HEAD_S
        return wait_s + _CROWD_S * worker.running

    def _loads_s(self, model: Model, worker: Worker) -> float:
        """Return the time of the model's load and of those that were sent there before it."""
        speeds = worker.plan.speeds
        before = (
            other for other, sent in self._sent[worker].items() if sent and other not in worker.replicas
        )
        return speeds[model.index].load_s + sum(speeds[other.index].load_s for other in before)

    def _eviction_s(self, model: Model, worker: Worker) -> float:
        """Return the time until enough models are idle."""
        sent = self._sent[worker]
        idle = sum(
            replica.model.size_bytes
            for replica in worker.replicas.values()
            if not replica.running and not sent[replica.model]
        )
        if worker.free_bytes + idle >= model.size_bytes:
            return 0.0
        return max((self._drain_s(r, sent) for r in worker.replicas.values() if sent[r.model]), default=0.0)

    def _drain_s(self, replica: Replica, sent: Counter[Model]) -> float:
        model = replica.model
        return self._service_s[model] * max(1.0, sent[model] / model.slots)
