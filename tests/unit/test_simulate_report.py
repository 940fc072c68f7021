from __future__ import annotations

import pytest

from gateway.simulate import study as studies
from gateway.simulate.report import as_json, figures, jain_index, mean_figures, percentile, share_within
from gateway.simulate.simulation import Run
from gateway.simulate.study import Study, capacity, find
from gateway.simulate.workload import Row, Synthetic, Tokens
from supervisor.contract.config import SchedulingConfig
from tests.support.simulated import a_fleet, jobs_for

FLEET = a_fleet(models=1)


def a_run(ttft_s: list[float]) -> Run:
    """Return a run whose requests came a second apart and had these times to first token."""
    jobs = jobs_for(FLEET, [(float(at), 0, 10, 1) for at in range(len(ttft_s))])
    for job, seconds in zip(jobs, ttft_s, strict=True):
        job.granted_at = job.request.arrived_at + seconds / 2
        job.first_token_at = job.request.arrived_at + seconds
        job.finished_at = job.first_token_at + 1
    return Run(jobs, 3, (1.0,), 100.0)


def test_the_first_tenth_is_left_out() -> None:
    """It fills an empty machine."""
    run = a_run([99.0] + [1.0] * 6 + [7.0] * 2 + [20.0])
    found = figures(run)
    assert list(found.share_le) == pytest.approx([6 / 9, 8 / 9])
    assert (found.ttft_p50_s, found.ttft_p99_s, found.max_wait_s) == (1.0, 20.0, 10.0)
    assert found.latency_mean_s == pytest.approx(1 + (6 * 1 + 2 * 7 + 20) / 9)
    assert found.loads == 3


def test_a_report_for_scripts_has_these_keys() -> None:
    """Exactly; capacity is null unless it was looked for."""
    entry = as_json("corral", None, figures(a_run([1.0] * 10)))
    assert entry == {
        "name": "corral",
        "capacity": None,
        "ttft_s": {"p50": 1.0, "p95": 1.0, "p99": 1.0},
        "latency_s": {"mean": 2.0, "p95": 2.0},
        "loads": 3,
        "share_ttft_le": {"5": 1.0, "10": 1.0},
        "max_wait_s": 0.5,
        "jain": 1.0,
    }


def test_figures_over_seeds_are_means_but_the_longest_wait() -> None:
    """Of that the largest."""
    mean = mean_figures([figures(a_run([1.0] * 10)), figures(a_run([3.0] * 10))])
    assert (mean.ttft_p50_s, mean.latency_p95_s, mean.max_wait_s) == (2.0, 3.0, 1.5)


def test_jains_index_tells_even_from_uneven() -> None:
    """1 when all are alike, 1/n when one has all."""
    assert jain_index([2.0, 2.0, 2.0]) == pytest.approx(1.0)
    assert jain_index([5.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jain_index([0.0, 0.0]) == 1.0


def test_a_percentile_is_a_value_that_occurred() -> None:
    """The last one for all of them."""
    assert [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 3, 4, 4]


def a_study(rho: float = 0.5) -> Study:
    """Return one worker with one model and a short process."""
    process = Synthetic(
        zipf=1, cv=1, requests=300, shifts=0, tenants=2, prompt_scale=1, lengths=[Tokens(500, 50)]
    )
    return Study(fleet=FLEET, source=process, rho=rho, scheduling=SchedulingConfig())


@pytest.mark.parametrize("limit", [0.02, 0.337, 0.9, 1.0])
def test_capacity_is_the_largest_load_that_reaches_the_goal(
    limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by bisection to a hundredth."""
    monkeypatch.setattr(Study, "run", lambda _self, _policy, rho, _seed: rho)
    monkeypatch.setattr(studies, "share_within", lambda rho, _goal: 1.0 if rho <= limit else 0.0)
    assert limit - 0.01 <= capacity(a_study(), "corral", 1) <= limit


def test_what_cannot_bear_the_least_load_has_no_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero, not the lower bound."""
    monkeypatch.setattr(studies, "share_within", lambda _run, _goal: 0.0)
    assert capacity(a_study(), "corral", 1) == 0.0


def test_at_its_capacity_a_policy_reaches_the_goal_and_beyond_it_does_not() -> None:
    """With a real run on both sides."""
    study = a_study()
    rho = capacity(study, "zero-swap", 1)
    assert share_within(study.run("zero-swap", rho, 1), 10) >= 0.9
    assert share_within(study.run("zero-swap", rho + 0.02, 1), 10) < 0.9


def test_a_trace_is_scaled_to_the_offered_load() -> None:
    """Twice the load is half the time."""
    rows = [Row(float(at), "m0", "", Tokens(500, 5)) for at in range(11)]
    study = Study(fleet=FLEET, source=rows, rho=0.1, scheduling=SchedulingConfig())
    slow, quick = study.jobs(0.2, 1), study.jobs(0.4, 1)
    assert slow[-1].request.arrived_at == pytest.approx(2 * quick[-1].request.arrived_at)


def test_capacity_is_looked_for_only_when_asked() -> None:
    """It takes a run for every step."""
    assert find(a_study(), "corral", 1, with_capacity=False).capacity is None
    assert find(a_study(), "corral", 1, with_capacity=True).capacity is not None
