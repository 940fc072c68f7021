"""How an Ollama schedules by itself: one queue, first come first served, over one GPU or several.

The request at the head that needs a load blocks all behind it until its model is loaded, for which idle
models go, the least recently used first. Requests of a model that is there or coming wait for its slots.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from gateway.simulate.machine import Machine, Replica, Worker
from gateway.simulate.model import Model, Request


class Ollama:
    """One Ollama over some GPUs; a model has one replica among them."""

    def __init__(self, machine: Machine, workers: Sequence[Worker]) -> None:
        self._machine = machine
        self._workers = workers
        self.pending: deque[Request] = deque()
        """Those whose turn has not come."""
        self._queued: dict[Model, deque[Request]] = {model: deque() for model in machine.models}
        """Those that wait for a slot of a model that is there or coming."""
        self._requests = 0

    @property
    def requests(self) -> int:
        """How many it has not answered."""
        return self._requests

    def add(self, request: Request) -> None:
        """Take a request."""
        self._requests += 1
        self.pending.append(request)
        self.proceed()

    def finished(self, model: Model, worker: Worker) -> None:
        """Use the slot that became free."""
        self._requests -= 1
        self.loaded(model, worker)

    def loaded(self, model: Model, worker: Worker) -> None:
        """Start who waits for the model, then see who is next."""
        self._start_queued(model, worker)
        self.proceed()

    def proceed(self) -> None:
        """Take requests from the head of the line until one must wait for a load."""
        while self.pending:
            model = self.pending[0].model
            worker = self._holder(model) or self._load(model)
            if worker is None:
                return
            self._queued[model].append(self.pending.popleft())
            self._start_queued(model, worker)

    def _holder(self, model: Model) -> Worker | None:
        for worker in self._workers:
            replica = worker.replicas.get(model)
            if replica is not None and not replica.leaving:
                return worker
        return None

    def _start_queued(self, model: Model, worker: Worker) -> None:
        queue, replica = self._queued[model], worker.replicas[model]
        while queue and replica.free_slots > 0:
            self._machine.start(queue.popleft(), worker)

    def _load(self, model: Model) -> Worker | None:
        """Do the next step towards the model: load it and return where, or unload an idle one, or wait."""
        if any(_moving(worker) for worker in self._workers):
            return None
        able = [worker for worker in self._workers if worker.can_ever_hold(model)]
        roomy = [worker for worker in able if worker.has_room(model)]
        if roomy:
            worker = max(roomy, key=lambda worker: worker.free_bytes)
            self._machine.load(model, worker)
            return worker
        idle = [(r.last_used, w.index, r, w) for w in able for r in w.replicas.values() if self._idle(r)]
        if idle:
            _, _, replica, worker = min(idle, key=lambda one: one[:2])
            self._machine.unload(replica.model, worker)
        return None

    def _idle(self, replica: Replica) -> bool:
        return replica.ready and not replica.running and not self._queued[replica.model]


def _moving(worker: Worker) -> bool:
    """Whether it loads or unloads."""
    return worker.loading is not None or any(replica.leaving for replica in worker.replicas.values())
