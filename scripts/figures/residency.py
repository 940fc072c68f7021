"""What residency-aware late binding is worth on real workers: Corral against two usual ways, interleaved.

Two workers with room for two of eight models each answer the same requests three times: through Corral's
port; from a central queue with eviction by least recent use; and each request at once to the worker with
the fewest under way, which loads and evicts by itself. The last two are the simulator's own policy
objects on the very workers that `corral up` starts, without its gateway in between. Each run begins with
new processes and nothing learned; rounds differ in their requests, and policies take turns within a round,
so that whatever else the machine does meets all of them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from gateway.simulate.model import Job
from gateway.simulate.policies.central_lru import CentralLru
from gateway.simulate.report import percentile
from scripts.figures.asking import ask_all
from scripts.figures.pace import typical_load_s
from scripts.figures.real_workers import LeastConnectionsForReal, PolicyMaker, run_policy
from scripts.figures.running import TWO_WORKERS, Running, running
from scripts.figures.zipf import ROOM, SLOTS, Load, fleet, jobs

CORRAL: Final = "corral"
OTHERS: Final[dict[str, PolicyMaker]] = {
    "central-lru": CentralLru,
    "least-connections": LeastConnectionsForReal,
}
POLICIES: Final = (CORRAL, *OTHERS)
LOADS: Final = {
    "embedded": Load(requests=200, per_load=5.0, answers=(20, 80)),
    "ollama": Load(requests=90, per_load=1.7, answers=(8, 24)),
}
"""By engine: as much as keeps two workers of a core each busy with loads and answers."""
GOALS_S: Final = (1.0, 2.0)
FIRST_SEED: Final = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """One run."""

    policy: str
    jobs: Sequence[Job]
    load_s: float
    """What a model took to load before all runs: the measure of how much is asked."""
    loads: int
    """As the workers' own log lines count them."""
    log: str
    """All that Corral and its workers wrote."""


def measure(directory: Path, engine: str, rounds: int, say: Callable[[str], None]) -> Iterator[Measured]:
    """Yield the runs, policy by policy and round by round; models and store are in the directory."""
    say("measuring how long this machine loads a model")
    load_s = measure_load_s(directory / "pace", directory, engine)
    say(f"{load_s:.2f} s, so {LOADS[engine].per_load / load_s:.1f} requests come in a second")
    for number in range(rounds):
        for policy in POLICIES:
            say(f"round {number + 1} of {rounds}: {policy}")
            yield measure_one(
                directory / f"{number}-{policy}", directory, engine, policy, FIRST_SEED + number, load_s
            )


def measure_load_s(directory: Path, models: Path, engine: str) -> float:
    """Return the seconds that a model takes to load on these workers."""
    with _started(directory, models, engine) as corral:
        return asyncio.run(typical_load_s(fleet(), _urls(corral)))


def measure_one(
    directory: Path, models: Path, engine: str, policy: str, seed: int, load_s: float
) -> Measured:
    """Return one run from a fresh start, where a model loads in about `load_s`."""
    among = fleet()
    asked = jobs(among, LOADS[engine], load_s, seed)
    with _started(directory, models, engine) as corral:
        if policy == CORRAL:
            asyncio.run(ask_all(corral.url, asked))
        else:
            asyncio.run(run_policy(among, asked, _urls(corral), OTHERS[policy]))
    log = (directory / "log").read_text()
    return Measured(policy, asked, load_s, count_loads(log.splitlines()), log)


@contextmanager
def _started(directory: Path, models: Path, engine: str) -> Iterator[Running]:
    directory.mkdir()
    for name in ("models", "store"):
        (directory / name).symlink_to(models / name)
    limits = {"num_parallel": SLOTS, "max_loaded_models": ROOM, "keep_alive": -1}
    with running(directory, workers=TWO_WORKERS, engine=engine, **limits) as corral:
        yield corral


def _urls(corral: Running) -> list[str]:
    workers = sorted(corral.ps()["workers"], key=lambda worker: str(worker["worker"]))
    return [str(worker["base_url"]) for worker in workers]


def count_loads(lines: Iterable[str]) -> int:
    """Return how many models the workers loaded, by the line that each writes of a load."""
    return sum(map(_tells_of_load, lines))


def _tells_of_load(line: str) -> bool:
    if not line.startswith("{"):
        return False
    entry = json.loads(line)
    embedded = entry.get("event") == "loaded" and "pid" in entry
    return embedded or 'msg="loaded runners"' in str(entry.get("event"))


def figures(runs: Sequence[Measured]) -> dict[str, Any]:
    """Return what one policy reached over its runs, all requests together; times in seconds."""
    ttft = sorted(job.ttft_s for run in runs for job in run.jobs)
    latency = sorted(job.latency_s for run in runs for job in run.jobs)
    return {
        "name": runs[0].policy,
        "requests": len(ttft),
        "loads": sum(run.loads for run in runs),
        "loads_by_round": [run.loads for run in runs],
        "ttft_s": {
            "p50": percentile(ttft, 0.5),
            "p95": percentile(ttft, 0.95),
            "mean": fmean(ttft),
            "max": ttft[-1],
        },
        "ttft_p95_s_by_round": [percentile(sorted(job.ttft_s for job in run.jobs), 0.95) for run in runs],
        "share_ttft_le": {f"{goal:g}": sum(t <= goal for t in ttft) / len(ttft) for goal in GOALS_S},
        "latency_s": {"mean": fmean(latency), "p95": percentile(latency, 0.95)},
    }
