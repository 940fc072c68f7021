"""`scripts/bench chaos`: what becomes of requests while things break."""

from __future__ import annotations

import asyncio
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.figures.chaos import report
from scripts.figures.chaos.house import DEADLINE_S, WORKERS, house, kinds_left_out, write_models
from scripts.figures.chaos.plan import Kind, schedule
from scripts.figures.chaos.processes import marked
from scripts.figures.chaos.remains import boot_of, second_copies
from scripts.figures.chaos.storm import Storm
from scripts.figures.chaos.timeline import served
from scripts.figures.chaos.verdicts import Circumstances
from scripts.figures.running import CORRAL
from scripts.figures.say import say

REQUESTS: Final = 10_000
FAULTS: Final = 20
QUICK_REQUESTS: Final = 600
QUICK_FAULTS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is asked and broken."""

    seed: int
    requests: int
    faults: int


def chaos(directory: Path, engine: str, size: Size) -> dict[str, Any]:
    """Return all figures; progress goes to standard error."""
    left_out = kinds_left_out()
    kinds = [kind for kind in Kind if kind not in left_out]
    planned = schedule(size.seed, requests=size.requests, faults=size.faults, workers=WORKERS, kinds=kinds)
    say("writing five models")
    write_models(directory, engine)
    say(f"{size.requests} requests through {size.faults} faults, seed {size.seed}")
    with house(directory, engine) as corral:
        outcome = asyncio.run(Storm(corral, size.seed, size.requests, planned).run())
        boot = boot_of(corral.running.ps()["workers"][0])
        log = corral.log_entries()
    known = Circumstances(
        deadline_s=DEADLINE_S,
        gateway_deaths=outcome.faults.gateway_deaths,
        served=served(log, outcome.faults.stopped, time.time()),
        vectors=outcome.vectors,
    )
    after = [f"process {pid} of {name} outlived Corral" for pid, name in marked(boot).items()]
    found = {
        "engine": engine,
        "seed": size.seed,
        "took_s": round(outcome.took_s, 1),
        "left_out": report.left_out_in_words(left_out),
        "left_over": [*outcome.remains, *second_copies(log), *after],
        **report.figures(
            outcome.seen, outcome.happened, known, lambda request: _explained(directory / "log", request)
        ),
    }
    return {**found, "missed": report.misses(found)}


def _explained(log: Path, request: str) -> str:
    """Return what `corral explain` makes of the log."""
    argv = [CORRAL, "explain", request, "--log", str(log)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()
