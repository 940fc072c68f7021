"""What the simulator makes of a real run from Corral's own log, against what was measured.

As a user does it: `corral simulate --fit LOG` writes the scenario, `--from-log LOG` replays the requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from gateway.commands.simulate_inputs import fitted_scenario, read_request_log, read_scenario, study_of
from gateway.simulate.overrides import Overrides
from gateway.simulate.policies.registry import CORRAL
from gateway.simulate.report import percentile
from scripts.figures.residency import Measured


def predictions(directory: Path, runs: Sequence[Measured]) -> dict[str, Any]:
    """Return prediction and measurement over all of Corral's runs; times in seconds.

    The directory, which is made, gets the logs and the scenarios fitted to them.
    """
    directory.mkdir()
    loads, ttft = 0, list[float]()
    for number, run in enumerate(runs):
        log, scenario = directory / f"{number}.log", directory / f"{number}.yaml"
        log.write_text(run.log)
        scenario.write_text("\n".join(fitted_scenario(str(log))))
        named = (log.name, read_request_log(str(log)))
        study = study_of(read_scenario(str(scenario)), Overrides(), rho=None, log=named)
        foretold = study.run(CORRAL, study.rho, 1)
        loads += foretold.loads
        ttft += [job.ttft_s for job in foretold.jobs]
    measured_ttft = [job.ttft_s for run in runs for job in run.jobs]
    return {
        "predicted": _figures(loads, ttft),
        "measured": _figures(sum(run.loads for run in runs), measured_ttft),
    }


def _figures(loads: int, ttft: list[float]) -> dict[str, float]:
    p95 = percentile(sorted(ttft), 0.95)
    return {"loads": loads, "ttft_mean_s": fmean(ttft), "ttft_p95_s": p95}


def deviations(prediction: dict[str, Any]) -> dict[str, float]:
    """Return by which share of the measurement each predicted figure is off; above 0 is too much."""
    predicted, measured = prediction["predicted"], prediction["measured"]
    return {key: predicted[key] / measured[key] - 1 for key in measured}
