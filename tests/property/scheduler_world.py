"""Workers that are stricter than real ones, and what they hold and do.

They fail the run when they are asked to load twice, to load what they hold, to unload what is busy, to hold
more than fits, or to compute more answers than they have slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.types import Resident, WorkerView
from supervisor.contract.config import SchedulingConfig

A, B, C = Variant("a"), Variant("b"), Variant("c")
LONG_A: Final = Variant("a", (("num_ctx", 8192),))
"""The weights of A in another runner."""
HUGE: Final = Variant("huge")
FOREIGN: Final = Variant("foreign")
"""Nobody may serve it, but somebody else might load it."""
SIZES: Final[Mapping[Variant, int]] = {A: 2, LONG_A: 3, B: 3, C: 5, HUGE: 50, FOREIGN: 2}

HASTY: Final = SchedulingConfig(
    ttft_goal=4.03,
    patience=9.13,
    drain_after=12.0,
    load_retry=5.0,
    fifo_turn=3,
    min_tenure=1.0,
    batch_hold=1.13,
    fair_share=1.37,
    flood_drain_after=6.0,
    eviction_price=0.0,
)
"""Short times, so that drains, swaps and retries are common in a history of forty events."""


SHORTER: Final = HASTY.model_copy(
    update={
        "ttft_goal": 3.07,
        "patience": 7.11,
        "drain_after": 8.0,
        "load_retry": 3.0,
        "fifo_turn": 2,
        "min_tenure": 0.5,
        "batch_hold": 0.71,
        "flood_drain_after": 4.0,
    }
)
"""What an operator might want instead: with longer times some that are late would not be so any more."""


@dataclass
class Held:
    """A model in a worker's memory."""

    resident: Resident
    since: float
    last_used: float
    wishes: dict[str, float] = field(default_factory=dict)
    """Until when each tenant wants it to stay."""
    faulty: bool = False
    """It was once seen as it must not be."""
    waited_for_at: float = -inf
    """When somebody waited for it last although it was idle."""
    tenure_s: float = 0.0
    """The longest that a load of it was ever expected to take."""

    def stays_until(self, default_s: float | None) -> float:
        """Return until when its users want it, once it is idle."""
        if self.wishes:
            return max(self.wishes.values())
        return inf if default_s is None else self.last_used + default_s


@dataclass
class World:
    """What a worker process really holds and does."""

    view: WorkerView
    loading: dict[Variant, float] = field(default_factory=dict)
    """With the moment when the load began."""
    unloading: dict[Variant, int] = field(default_factory=dict)
    """With the bytes that are still taken."""
    held: dict[Variant, Held] = field(default_factory=dict)
    running: dict[RequestId, Variant] = field(default_factory=dict)

    def busy(self, variant: Variant) -> int:
        """Return how many answers it computes with the model."""
        return list(self.running.values()).count(variant)

    def idle(self) -> list[Variant]:
        """Return the models that are not used."""
        return [variant for variant in self.held if variant not in self.running.values()]

    def begin_load(self, variant: Variant, need: Mapping[Variant, int], now: float) -> None:
        """Begin to load; everything about it is checked."""
        assert self.view.ready, "load on a worker that is not ready"
        assert not self.loading, "two loads at once on a worker"
        assert variant not in self.held, "loads what is resident"
        assert variant not in self.unloading, "loads what is being unloaded"
        assert variant in self.view.servable, "loads what the worker may not serve"
        self.loading[variant] = now
        there = [*self.loading, *self.held, *self.unloading]
        assert len(there) <= self.view.max_loaded_models, "more models than max_loaded_models"
        assert self.taken_bytes(need) <= self.view.memory_bytes, "more than the memory"
        if self.view.one_per_weights:
            assert len({v.digest for v in there}) == len(there), "two variants of the same weights"

    def taken_bytes(self, need: Mapping[Variant, int]) -> int:
        """Return the memory that is taken; what is being loaded counts as expected."""
        held = sum(held.resident.size_bytes for held in self.held.values())
        return held + sum(self.unloading.values()) + sum(need[variant] for variant in self.loading)

    def begin_unload(self, variant: Variant) -> Held:
        """Begin to unload."""
        assert variant in self.held, "unloads what is not resident"
        assert variant not in self.running.values(), "unloads a busy model"
        held = self.held.pop(variant)
        self.unloading[variant] = held.resident.size_bytes
        return held

    def begin_answer(self, request: RequestId, variant: Variant) -> Held:
        """Take a request in."""
        assert self.view.ready, "grant to a worker that is not ready"
        assert variant in self.held, "grant where the model is not resident"
        assert variant in self.view.servable, "grant of a model that the worker may not serve"
        held = self.held[variant]
        assert not held.faulty, "grant on a replica that has to go"
        self.running[request] = variant
        assert self.busy(variant) <= held.resident.slots, "more grants than slots"
        return held


Worlds = dict[Instance, World]
