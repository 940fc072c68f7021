from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.simulate.model import Job
from scripts.figures import zipf
from scripts.figures.prediction import deviations
from scripts.figures.residency import Measured, count_loads, figures
from tests.support.simulated import a_fleet, jobs_for

LOAD = zipf.Load(requests=400, per_load=4.0, answers=(20, 80))


def trace(seed: int, load_s: float = 1.0) -> list[tuple[float, str, int, int]]:
    """Return what the trace of a seed asks."""
    asked = zipf.jobs(zipf.fleet(), LOAD, load_s, seed)
    return [
        (j.request.arrived_at, j.request.model.name, j.request.prompt_tokens, j.output_tokens) for j in asked
    ]


def test_a_seed_gives_the_same_trace_each_time() -> None:
    """So that policies, and people, can be compared."""
    assert trace(1) == trace(1)
    assert trace(1) != trace(2)


@pytest.mark.parametrize("load_s", [0.5, 2.0])
def test_as_many_requests_come_in_the_time_of_a_load_on_any_machine(load_s: float) -> None:
    """Whatever its bursts are; exactly so many requests, for all eight models."""
    asked = trace(1, load_s)
    assert len(asked) == 400
    assert len(asked) / asked[-1][0] == pytest.approx(4.0 / load_s)
    assert {model for _, model, _, _ in asked} == set(zipf.MODELS)


def test_a_body_reads_and_writes_as_many_tokens_as_the_trace_says() -> None:
    """The prompt counts, one number a token; the answer is cut at its length."""
    job = jobs_for(a_fleet(), [(0, 0, 3, 20)])[0]
    body = zipf.body(job)
    assert (body["prompt"], body["options"]["num_predict"]) == ("1 2 3", 20)


def line(**entry: Any) -> str:
    """Return a line of Corral's log."""
    return json.dumps(entry)


def test_loads_are_counted_by_the_lines_of_the_workers() -> None:
    """One of the embedded engine's, one of Ollama's; the gateway's own line is no further one."""
    ollama = 'time=2026-01-01T00:00:00Z level=INFO source=sched.go:561 msg="loaded runners" count=2'
    log = [
        line(event="loaded", worker="cpu0", model="m", pid=7, took_s=0.5),
        line(event="loaded", worker="cpu0#1", model="m", load=1, seconds=0.5),
        line(event=ollama, worker="cpu1"),
        "a traceback",
    ]
    assert count_loads(log) == 2


def a_run(ttft_s: list[float], loads: int) -> Measured:
    """Return a run with these times to first token."""
    jobs: list[Job] = jobs_for(a_fleet(), [(float(at), 0, 1, 1) for at in range(len(ttft_s))])
    for job, seconds in zip(jobs, ttft_s, strict=True):
        job.first_token_at = job.request.arrived_at + seconds
        job.finished_at = job.first_token_at + 1
    return Measured("corral", jobs, 1.0, loads, "")


def test_figures_are_over_the_requests_of_all_rounds() -> None:
    """And the loads are the sum, with the rounds beside it to show how even they were."""
    found = figures([a_run([0.5] * 9 + [4.0], 3), a_run([1.5] * 10, 4)])
    assert (found["requests"], found["loads"], found["loads_by_round"]) == (20, 7, [3, 4])
    assert found["ttft_s"] == {"p50": 1.5, "p95": 4.0, "mean": pytest.approx(1.175), "max": 4.0}
    assert found["share_ttft_le"] == {"1": 0.45, "2": 0.95}


def test_a_prediction_that_is_too_high_deviates_upwards() -> None:
    """As a share of what was measured."""
    off = deviations({"predicted": {"loads": 12}, "measured": {"loads": 10}})
    assert off == {"loads": pytest.approx(0.2)}
