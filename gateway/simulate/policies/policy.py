"""What every policy is: told what happens, it starts, loads and unloads on the machine.

A policy sees requests without the lengths of their answers, and nothing of the future.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf
from random import Random

from gateway.simulate.machine import Machine, Worker
from gateway.simulate.model import Model, Request


class Policy(ABC):
    """One way to route; `machine.now` is the time, and nothing happens within a call."""

    def __init__(self, machine: Machine, chance: Random) -> None:
        """`chance` is for breaking ties."""
        self.machine = machine
        self.chance = chance
        self.wake_at = inf
        """When `woken` is to be called although nothing happens."""

    @abstractmethod
    def arrived(self, request: Request) -> None:
        """Take a new request."""

    def answering(self, request: Request) -> None:  # noqa: B027 -- not every policy cares
        """Hear that a prompt is read."""

    @abstractmethod
    def finished(self, request: Request, worker: Worker, output_tokens: int) -> None:
        """Hear that a slot is free again, and how long the answer was."""

    def loaded(self, model: Model, worker: Worker) -> None:  # noqa: B027 -- a policy that never loads hears nothing
        """Hear that a load is done."""

    def unloaded(self, model: Model, worker: Worker) -> None:  # noqa: B027 -- the same
        """Hear that a model's memory is free."""

    def woken(self) -> None:
        """Do what was due at `wake_at`, and set it anew."""
        self.wake_at = inf
