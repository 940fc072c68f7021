"""`scripts/bench scheduler`: how long a decision takes, and a million simulated requests.

Once as the tree is, and once with the scheduler compiled, if there is a C compiler.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gateway.commands.simulate_inputs import read_scenario, study_of
from gateway.simulate.overrides import Overrides
from gateway.simulate.policies.registry import CORRAL
from scripts.figures.compiled import NotCompiledError, compiled_tree, figures_of
from scripts.figures.say import say
from scripts.figures.scheduler import decisions

REQUESTS: Final = 1_000_000
QUICK: Final = 100_000
_FIGURES: Final[tuple[tuple[str, str, str, Callable[[dict[str, Any]], float]], ...]] = (
    ("decision, median", "us", "no goal", lambda of: of["decision_us"]["p50"]),
    ("decision, p99", "us", "at most 50", lambda of: of["decision_us"]["p99"]),
    ("decision, slowest", "us", "at most 5000", lambda of: of["decision_us"]["max"]),
    ("1,000,000 simulated requests", "s ", "at most 180", lambda of: of["simulated"]["seconds_per_million"]),
)
"""What is shown: its name, its unit, what it must reach, and where it is."""
SCENARIO: Final = Path(__file__).parents[2] / "configs" / "scenarios" / "b.yaml"


def scheduler(directory: Path, *, quick: bool) -> dict[str, Any]:
    """Return all figures, and those of the compiled scheduler under `compiled` (a text if there is none)."""
    found = measured(quick=quick)
    try:
        tree = compiled_tree(directory)
    except NotCompiledError as error:
        return {**found, "compiled": str(error)}
    return {**found, "compiled": figures_of(tree, f"{__name__}:measured(quick={quick})")}


def measured(*, quick: bool) -> dict[str, Any]:
    """Return this process's figures: decisions in microseconds, the simulation in seconds of one core."""
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
    compiled = found["compiled"]
    both = [found, compiled] if isinstance(compiled, dict) else [found]
    lines = [f"{'':28}{'Python':>10}{'compiled':>12}"]
    for name, unit, goal, figure in _FIGURES:
        cells = "".join(f"{figure(of):>10.1f} {unit}" for of in both)
        lines.append(f"{name:28}{cells}   ({goal})")
    lines.append(
        f"{found['events']} events with {found['loads_per_event']:.2f} loads each, {found['queued']} "
        f"requests wait; {found['simulated']['requests']:,} requests were simulated"
    )
    return lines if len(both) > 1 else [*lines, f"not compiled: {compiled}"]
