"""The ceiling: every model resident on every worker, so that nothing is ever loaded.

One queue, first come first served but for models that can start nowhere; a worker computes at most two
models at once, and a request joins the batch where it costs the others least.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Final

from gateway.simulate.machine import Machine, Replica, Worker
from gateway.simulate.model import Model, Request
from gateway.simulate.policies.policy import Policy

_MOST_ACTIVE_MODELS: Final = 2
"""More would share a GPU without batching any better."""
_BATCH_COST: Final = 0.10
"""What a further sequence in a batch costs, against a further active model."""
_CROWD_COST: Final = 0.01
"""Each request on a worker, as a tie-break."""


class ZeroSwap(Policy):
    """No loads, no evictions, late binding."""

    def __init__(self, machine: Machine, chance: Random) -> None:
        super().__init__(machine, chance)
        machine.hold_everything()
        self._queues: dict[Model, deque[Request]] = {}

    def arrived(self, request: Request) -> None:
        """Start it, or let it wait behind those of its model."""
        queue = self._queues.get(request.model)
        if queue is not None:
            queue.append(request)  # those before it can start nowhere, so it cannot either
        elif not self._start(request):
            self._queues[request.model] = deque([request])

    def finished(self, request: Request, worker: Worker, output_tokens: int) -> None:  # noqa: ARG002 -- protocol
        """Start who waits, in the order of arrival."""
        for model in sorted(self._queues, key=lambda model: self._queues[model][0].index):
            queue = self._queues[model]
            while queue and self._start(queue[0]):
                queue.popleft()
            if not queue:
                del self._queues[model]

    def _start(self, request: Request) -> bool:
        options = [
            (cost, worker.index, worker)
            for worker in self.machine.workers
            if (cost := _cost(worker, worker.replicas[request.model])) is not None
        ]
        if options:
            self.machine.start(request, min(options)[2])
        return bool(options)


def _cost(worker: Worker, replica: Replica) -> float | None:
    """Return what one more request costs there; None is no place for it."""
    active = len(worker.active)
    if replica.free_slots <= 0 or (not replica.running and active >= _MOST_ACTIVE_MODELS):
        return None
    slices = active - 1 + _BATCH_COST * replica.running if replica.running else active
    return slices + _CROWD_COST * worker.running
