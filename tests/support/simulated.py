"""Small fleets and workloads for tests of the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.simulate.model import Fleet, Job, Model, Request, Speeds, WorkerPlan

GB = 10**9
PREFILL_TOKENS_PER_S = 1000.0
DECODE_TOKENS_PER_S = 10.0
LOAD_S = 4.0
SLOWDOWN = 0.5


def a_fleet(*, workers: int = 1, models: int = 2, room_for: int = 2, slots: int = 2) -> Fleet:
    """Return workers that are alike, with models of one gigabyte, of which each holds so many."""
    speeds = Speeds(PREFILL_TOKENS_PER_S, DECODE_TOKENS_PER_S, LOAD_S)
    plan = WorkerPlan(
        name="gpu",
        device="plain",
        memory_bytes=room_for * GB,
        max_loaded_models=models,
        batch_slowdown=SLOWDOWN,
        unload_s=0.0,
        speeds=(speeds,) * models,
    )
    return Fleet(
        tuple(Model(at, f"m{at}", GB, slots) for at in range(models)),
        tuple(replace(plan, name=f"gpu{at}") for at in range(workers)),
    )


def jobs_for(fleet: Fleet, asked: Sequence[tuple[float, int, int, int]]) -> list[Job]:
    """Return jobs from (arrival, model, prompt tokens, output tokens), one tenant, in order of arrival."""
    return [
        Job(Request(at, arrived_at, fleet.models[model], "t", prompt), output)
        for at, (arrived_at, model, prompt, output) in enumerate(sorted(asked))
    ]
