"""Corral's own policy: the gateway's scheduler, driven with its real events and effects.

Decides nothing. A worker is a process of its own here as there; a model's size in `servable` is what it
really takes, requests never give up, and models stay loaded until the scheduler wants their room.
"""

from __future__ import annotations

from math import inf
from random import Random
from typing import Final, assert_never

from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.scheduler import Scheduler
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
    Resident,
    Unload,
    Unloaded,
    WorkerView,
)
from gateway.simulate.machine import Machine, Worker
from gateway.simulate.model import Model, Request
from gateway.simulate.policies.policy import Policy
from supervisor.contract.config import SchedulingConfig

_NO_BOUND: Final = 10**9
"""A queue that no request finds full."""
_CONTEXT: Final = 4096
"""Tokens per slot; nothing here depends on it."""


class RejectedError(Exception):
    """The scheduler refused a request, which in a simulation it never has a reason for."""


class Corral(Policy):
    """The adapter between the scheduler's words and the machine's."""

    def __init__(self, machine: Machine, chance: Random, scheduling: SchedulingConfig) -> None:
        super().__init__(machine, chance)
        self._scheduler = Scheduler(scheduling)
        self._variants = {model: Variant(model.name) for model in machine.models}
        self._models = {variant: model for model, variant in self._variants.items()}
        self._instances = {worker: Instance(worker.plan.name, 1) for worker in machine.workers}
        self._workers = {instance: worker for worker, instance in self._instances.items()}
        self._waiting: dict[RequestId, Request] = {}
        self._feed(FleetChanged(tuple(map(self._view, machine.workers))))

    def arrived(self, request: Request) -> None:
        """Let it wait for its grant."""
        request_id = _id(request)
        self._waiting[request_id] = request
        self._feed(
            Arrived(
                request=request_id,
                variant=self._variants[request.model],
                arrived_at=request.arrived_at,
                deadline=inf,
                tenant=request.tenant,
                session=request.session,
                prompt_tokens=request.prompt_tokens,
                background=request.background,
            )
        )

    def answering(self, request: Request) -> None:
        """Pass it on."""
        self._feed(Answering(_id(request)))

    def finished(self, request: Request, worker: Worker, output_tokens: int) -> None:  # noqa: ARG002 -- the scheduler knows where it ran
        """Pass it on."""
        self._feed(Finished(_id(request), output_tokens=output_tokens, prompt_tokens=request.prompt_tokens))

    def loaded(self, model: Model, worker: Worker) -> None:
        """Pass it on, with the slots and the size that the model has."""
        resident = Resident(
            slots=model.slots,
            size_bytes=model.size_bytes,
            size_vram_bytes=model.size_bytes,
            context_length=_CONTEXT,
        )
        self._feed(Loaded(self._instances[worker], self._variants[model], resident))

    def unloaded(self, model: Model, worker: Worker) -> None:
        """Pass it on."""
        self._feed(Unloaded(self._instances[worker], self._variants[model]))

    def woken(self) -> None:
        """Let the scheduler do what is due."""
        self._feed(DeadlinePassed())

    def _feed(self, event: Event) -> None:
        now = self.machine.now
        for effect in self._scheduler.handle(event, now):
            self._carry_out(effect)
        deadline = self._scheduler.next_deadline(now)
        self.wake_at = inf if deadline is None else deadline

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Grant():
                self.machine.start(self._waiting.pop(effect.request), self._workers[effect.instance])
            case Load():
                self.machine.load(self._models[effect.variant], self._workers[effect.instance])
            case Unload():
                self.machine.unload(self._models[effect.variant], self._workers[effect.instance])
            case Reject():
                raise RejectedError(f"request {effect.request}: {effect.rejection.message}")
            case _:
                assert_never(effect)

    def _view(self, worker: Worker) -> WorkerView:
        most_slots = max(model.slots for model in self.machine.models)
        return WorkerView(
            instance=self._instances[worker],
            ready=True,
            num_parallel=most_slots,
            max_loaded_models=worker.plan.max_loaded_models,
            max_queue=_NO_BOUND,
            keep_alive_s=None,
            memory_bytes=worker.plan.memory_bytes,
            device=worker.plan.device,
            servable={variant: model.size_bytes for variant, model in self._models.items()},
        )


def _id(request: Request) -> RequestId:
    return RequestId(str(request.index))
