"""What is asked in the comparison of policies: eight models, bursty arrivals, popularity by Zipf.

The process is the simulator's own, so that a run on real workers and a simulated one mean the same by it.
Each model counts in a vocabulary so large that reading it makes most of the load: as long on a CPU as the
weights of a small model take on a GPU, while answers stay quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from gateway.simulate.model import Fleet, Job, Model, Speeds, WorkerPlan
from gateway.simulate.workload import Synthetic, Tokens, synthetic_jobs
from scripts.recipes import counting
from scripts.recipes.llama_gguf import Shape

SLOTS: Final = 4
WORKERS: Final = 2
ROOM: Final = 2
"""Models that a worker holds at once."""
VOCABULARIES: Final = (45_000, 50_000, 55_000, 60_000, 65_000, 70_000, 75_000, 80_000)
"""Numbers that the models know: files of 100 to 170 MB that load in 0.4 to 1 s."""
MODELS: Final = tuple(f"zipf{words // 1000}k" for words in VOCABULARIES)

_SHAPE: Final = Shape(width=256, layers=2, heads=4, feed_forward=256)
_CV: Final = 2.0
_PROMPTS: Final = (8, 120)
"""Least and most tokens."""
_LENGTHS: Final = 1000
_SPARE: Final = 4
"""How many times as many requests are drawn as are taken: how many a process makes is chance."""
_NOMINAL: Final = Speeds(prefill_tokens_per_s=1e9, decode_tokens_per_s=100.0, load_s=1.0)
"""Only the product of offered load and speed matters here: the requests per second."""


def write_models(directory: Path) -> Iterator[str]:
    """Write the models that are not there yet; yields the name of each before it is written."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, words in zip(MODELS, VOCABULARIES, strict=True):
        yield name
        counting.counting(directory / f"{name}.gguf", name=name, words=words, shape=_SHAPE)


def fleet() -> Fleet:
    """Return workers of which each has room for two models, whatever those take."""
    plans = tuple(_plan(f"cpu{number}") for number in range(WORKERS))
    return Fleet(tuple(Model(at, name, 1, SLOTS) for at, name in enumerate(MODELS)), plans)


def _plan(name: str) -> WorkerPlan:
    return WorkerPlan(
        name=name,
        device="cpu",
        memory_bytes=ROOM,
        max_loaded_models=ROOM,
        batch_slowdown=0.0,
        unload_s=0.0,
        speeds=(_NOMINAL,) * len(MODELS),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is asked."""

    requests: int
    per_load: float
    """How many come while one model is loaded."""
    answers: tuple[int, int]
    """Least and most tokens."""


def jobs(among: Fleet, load: Load, load_s: float, seed: int) -> list[Job]:
    """Return the requests in the order of arrival, where a model loads in about `load_s`."""
    chance = Random(seed)  # noqa: S311 -- a workload, not a secret
    lengths = [Tokens(chance.randint(*_PROMPTS), chance.randint(*load.answers)) for _ in range(_LENGTHS)]
    process = Synthetic(
        zipf=1.0,
        cv=_CV,
        requests=_SPARE * load.requests,
        shifts=0,
        tenants=1,
        prompt_scale=1.0,
        lengths=lengths,
    )
    unscaled = synthetic_jobs(among, process, 1.0, seed)[: load.requests]
    rate = load.requests / unscaled[-1].request.arrived_at
    return synthetic_jobs(among, process, load.per_load / load_s / rate, seed)[: load.requests]


def body(job: Job) -> dict[str, Any]:
    """Return the streamed request that reads and writes exactly so many tokens."""
    return {
        "model": job.request.model.name,
        "prompt": " ".join(str(number) for number in range(1, job.request.prompt_tokens + 1)),
        "raw": True,
        "options": {"num_predict": job.output_tokens, "temperature": 0},
    }
