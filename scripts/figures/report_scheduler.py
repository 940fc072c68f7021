"""`scripts/bench scheduler`: how long a decision takes, and a million simulated requests."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from gateway.commands.simulate_inputs import read_scenario, study_of
from gateway.simulate.overrides import Overrides
from gateway.simulate.policies.registry import CORRAL
from scripts.figures.say import say
from scripts.figures.scheduler import decisions

REQUESTS: Final = 1_000_000
QUICK: Final = 100_000
SCENARIO: Final = Path(__file__).parents[2] / "configs" / "scenarios" / "b.yaml"


def scheduler(*, quick: bool) -> dict[str, Any]:
    """Return all figures; decisions in microseconds, the simulation in seconds of one core."""
    say("decisions among 1000 workers, 1000 models, 100,000 waiting")
    found = decisions(workers=1000, models=1000, queued=100_000, events=20_000)
    requests = QUICK if quick else REQUESTS
    say(f"simulating {requests:,} requests")
    study = study_of(read_scenario(str(SCENARIO)), Overrides(requests=requests), rho=None, log=None)
    started = time.process_time()
    run = study.run(CORRAL, study.rho, 1)
    took_s = time.process_time() - started
    return {
        **found,
        "simulated": {
            "requests": len(run.jobs),
            "seconds": took_s,
            "seconds_per_million": took_s / len(run.jobs) * REQUESTS,
        },
    }


def in_words(found: dict[str, Any]) -> list[str]:
    """Return a line a figure, with what it must reach."""
    took, simulated = found["decision_us"], found["simulated"]
    return [
        f"decision, median               {took['p50']:8.1f} us     (mean {took['mean']:.1f})",
        f"decision, p99                  {took['p99']:8.1f} us     (at most 50)",
        f"decision, slowest              {took['max']:8.0f} us     (at most 5000)",
        (
            f"loads per event                {found['loads_per_event']:8.2f}        (at least 0.1; "
            f"{found['events']} events, {found['queued']} requests wait)"
        ),
        (
            f"1,000,000 simulated requests   {simulated['seconds_per_million']:8.1f} s      (at most 180; "
            f"{simulated['requests']:,} were simulated)"
        ),
    ]
