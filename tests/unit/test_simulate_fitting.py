from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from gateway.simulate.fitting import NothingShownError, as_yaml, fit
from gateway.simulate.machine import Happening, Loaded, Machine, Worker
from gateway.simulate.model import Job, Model
from gateway.simulate.overrides import misfits
from gateway.simulate.policies.registry import policy_maker
from gateway.simulate.scenario import Scenario, fleet_of
from gateway.simulate.shown import read_shown
from gateway.simulate.simulation import Run, simulate
from supervisor.contract.config import SchedulingConfig
from supervisor.contract.yaml_config import parse_as
from tests.support.simulated import (
    DECODE_TOKENS_PER_S,
    LOAD_S,
    PREFILL_TOKENS_PER_S,
    SLOWDOWN,
    a_fleet,
    jobs_for,
)

EPOCH_S = 1_700_000_000.0
CROWDED_LOAD_WEIGHT = 0.8


def stamp(at: float) -> str:
    """Return a moment of the run as log lines have it."""
    return datetime.fromtimestamp(EPOCH_S + at, UTC).isoformat().replace("+00:00", "Z")


def serves(worker: str = "gpu0#1") -> dict[str, Any]:
    """Return the line of a worker that begins to serve."""
    return {"event": "worker serves", "worker": worker, "max_loaded_models": 2, "memory_bytes": 5 * 10**9}


def loaded(model: str, at: float, seconds: float = LOAD_S) -> dict[str, Any]:
    """Return the line of a load that ended at that moment."""
    facts = {"load": 1, "model": model, "seconds": seconds, "slots": 2, "size_bytes": 10**9}
    return {"event": "loaded", "worker": "gpu0#1", "timestamp": stamp(at), **facts}


def answered(job: Job) -> dict[str, Any]:
    """Return the line of a simulated request on the first worker."""
    arrived = job.request.arrived_at
    return {
        "event": "request",
        "outcome": "done",
        "status": 200,
        "worker": "gpu0",
        "model": job.request.model.name,
        "started_unix": EPOCH_S + arrived,
        "attempts": [{"asked_s": 0.0, "waited_s": job.waited_s}],
        "first_byte_s": job.ttft_s,
        "total_s": job.latency_s,
        "prompt_tokens": job.request.prompt_tokens,
        "tokens": job.output_tokens,
    }


def lines(*entries: dict[str, Any]) -> list[str]:
    """Return log lines, with one of somebody else's among them."""
    return [*map(json.dumps, entries), "not of ours {"]


def a_simulated_log() -> list[str]:
    """Return the log of a worker on which answers ran alone, in batches and beside another model."""
    fleet = a_fleet()
    asked = [(40.0 * at, 0, 100, 40) for at in range(1, 6)]
    asked += [(300 + 40.0 * at, 0, 100, 40) for at in range(1, 6)] * 2
    asked += [(600 + 80.0 * at, model, 100, 40) for at in range(1, 6) for model in (0, 1)]
    run: Run = simulate(fleet, jobs_for(fleet, asked), policy_maker("corral", SchedulingConfig()), 1)
    done = [answered(job) for job in run.jobs]
    return lines(serves(), loaded("m0", 10.0), loaded("m1", 20.0), *done)


@pytest.mark.parametrize(
    "line",
    [
        {"event": "loaded", "load": 1, "model": "a", "seconds": 0.5},
        {**loaded("a", 1.0), "timestamp": "yesterday"},
        {**loaded("a", 1.0), "slots": ["two"]},
        {"event": "request", "outcome": "done", "status": 200, "first_byte_s": 0.1, "tokens": 3}
        | {"prompt_tokens": 3, "attempts": [{}]},
        {"event": "request", "outcome": "done", "status": 200, "first_byte_s": 0.1, "tokens": 3}
        | {"prompt_tokens": 3, "attempts": 7},
    ],
)
def test_lines_that_say_less_than_ours_are_passed_over(line: dict[str, Any]) -> None:
    """Other programs log too, and some words are theirs as well."""
    shown = read_shown([json.dumps(line), json.dumps(serves())])
    assert (shown.answers, shown.loads, list(shown.limits)) == ([], [], ["gpu0"])


def test_the_speeds_of_a_simulated_log_are_found_again() -> None:
    """What the simulator was given comes back, the time of the first token told from the prompt's."""
    fitted = fit(read_shown(a_simulated_log()))
    model = fitted.models[0]
    assert fitted.batch_slowdown == pytest.approx(SLOWDOWN)
    assert model.decode_tokens_per_s == pytest.approx(DECODE_TOKENS_PER_S, rel=0.001)
    assert model.prefill_tokens_per_s == pytest.approx(PREFILL_TOKENS_PER_S, rel=0.01)
    assert (model.load_s, model.slots, model.size_gb) == (LOAD_S, 2, 1.0)


def test_what_is_fitted_is_a_scenario() -> None:
    """It can be read as one, with limits as the log tells them."""
    text = "\n".join(as_yaml(fit(read_shown(a_simulated_log()))))
    scenario, _ = parse_as(Scenario, text, file="fitted.yaml", check=misfits)
    fleet = fleet_of(scenario)
    assert [model.name for model in fleet.models] == ["m0", "m1"]
    assert [(worker.memory_bytes, worker.max_loaded_models) for worker in fleet.workers] == [(5 * 10**9, 2)]
    assert [speeds.load_s for speeds in fleet.workers[0].speeds] == [LOAD_S, LOAD_S]


def test_a_model_without_answers_gets_no_speeds_of_its_own() -> None:
    """The scenario's speeds per gigabyte, which are the others' mean, are then its own."""
    job = jobs_for(a_fleet(), [(30.0, 0, 100, 41)])[0]
    job.granted_at, job.first_token_at, job.finished_at = 30.0, 30.2, 34.2
    fitted = fit(read_shown(lines(serves(), loaded("m0", 10.0), loaded("m9", 20.0), answered(job))))
    silent = fitted.models[1]
    assert (silent.name, silent.decode_tokens_per_s, silent.load_s) == ("m9", None, LOAD_S)
    assert "decode_tokens_per_s_gb: 10" in "\n".join(as_yaml(fitted))


def test_answers_that_came_whole_do_not_tell_when_their_prompt_was_read() -> None:
    """Their first byte is their last; without any other, a prompt is taken to be read 48 times as fast."""
    streamed, whole = jobs_for(a_fleet(), [(30.0, 0, 100, 40), (90.0, 0, 480, 40)])
    streamed.granted_at, streamed.first_token_at, streamed.finished_at = 30.0, 30.2, 34.1
    whole.granted_at, whole.first_token_at, whole.finished_at = 90.0, 95.0, 95.0
    told_whole = answered(whole) | {"stream": False}
    both = fit(read_shown(lines(serves(), loaded("m0", 10.0), answered(streamed), told_whole))).models[0]
    alone = fit(read_shown(lines(serves(), loaded("m0", 10.0), told_whole))).models[0]
    assert (both.decode_tokens_per_s, both.prefill_tokens_per_s) == pytest.approx((10, 1000), rel=0.001)
    assert alone.decode_tokens_per_s == pytest.approx((40 + 480 / 48) / 5, rel=0.01)


def test_moments_that_rounding_put_out_of_order_do_no_harm() -> None:
    """Each is rounded by itself: a first byte may seem to come before its slot, or an end before that."""
    jobs = jobs_for(a_fleet(), [(30.0, 0, 100, 40), (30.0, 0, 100, 40), (60.0, 0, 100, 40), (90.0, 0, 9, 9)])
    for job, granted, first, end in zip(
        jobs,
        (30.0, 30.0, 60.0002, 90.0002),
        (30.3, 29.9999, 60.0, 90.0),
        (36.3, 36.2, 64.0, 90.0),
        strict=True,
    ):
        job.granted_at, job.first_token_at, job.finished_at = granted, first, end
    fitted = fit(read_shown(lines(serves(), loaded("m0", 10.0), *map(answered, jobs))))
    assert fitted.answers == 3
    assert fitted.models[0].decode_tokens_per_s == pytest.approx(10, rel=0.05)


def test_workers_that_are_alike_are_a_group() -> None:
    """So that one more of them can be asked for; a few megabytes make no difference."""
    sizes = (5000, 5050, 11000)
    workers = [serves(f"gpu{at}#1") | {"memory_bytes": size * 10**6} for at, size in enumerate(sizes)]
    job = jobs_for(a_fleet(), [(30.0, 0, 100, 40)])[0]
    job.granted_at, job.first_token_at, job.finished_at = 30.0, 30.1, 34.2
    told = "\n".join(as_yaml(fit(read_shown(lines(*workers, loaded("m0", 10.0), answered(job))))))
    assert "- {count: 2, vram_gb: 5, max_loaded_models: 2}\n  - {count: 1, vram_gb: 11," in told


def test_a_load_beside_an_answer_is_seen_to_slow_it() -> None:
    """Answers during loads took twice as long, so a load counts as one more model."""
    fleet = a_fleet()
    jobs = jobs_for(fleet, [(30.0 * at, 0, 100, 40) for at in range(1, 9)])
    for at, job in enumerate(jobs):
        crowd = 2 if at % 2 else 1
        job.granted_at = job.request.arrived_at
        job.first_token_at = job.granted_at + 0.1 * crowd + 0.1
        job.finished_at = job.granted_at + 4.1 * crowd
    slow = [loaded("m1", job.finished_at, 9.0) for job in jobs[1::2]]
    fitted = fit(read_shown(lines(serves(), loaded("m0", 1.0), *slow, *map(answered, jobs))))
    assert fitted.load_weight == pytest.approx(1.0)
    assert fitted.models[0].decode_tokens_per_s == pytest.approx(10.0, rel=0.001)


def a_crowded_log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the log of a CPU on which loads, prompts and answers slowed one another."""
    plain = a_fleet(models=3, slots=3)
    fleet = replace(plain, workers=(replace(plain.workers[0], load_weight=CROWDED_LOAD_WEIGHT),))
    jobs = jobs_for(
        fleet, [(4.0 * at, at // 5 % 3, 100 + at % 5 * 300, 20 + at % 4 * 15) for at in range(60)]
    )
    begun: list[tuple[str, float]] = []
    ended: list[dict[str, Any]] = []
    load, step = Machine.load, Machine.step

    def noting_load(machine: Machine, model: Model, worker: Worker) -> None:
        begun.append((model.name, machine.now))
        load(machine, model, worker)

    def noting_step(machine: Machine) -> Happening:
        happening = step(machine)
        if isinstance(happening, Loaded):
            model, since = begun[-1]  # one at a time on the only worker
            ended.append(loaded(model, machine.now, machine.now - since))
        return happening

    monkeypatch.setattr(Machine, "load", noting_load)
    monkeypatch.setattr(Machine, "step", noting_step)
    run = simulate(fleet, jobs, policy_maker("corral", SchedulingConfig()), 1)
    return lines(serves(), *ended, *map(answered, run.jobs))


def test_a_crowded_log_tells_how_fast_all_was_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that goes at changing speeds is added up second by second, not taken at its mean surroundings."""
    fitted = fit(read_shown(a_crowded_log(monkeypatch)))
    assert fitted.loads > len(fitted.models), "some were loaded again, beside answers"
    assert (fitted.batch_slowdown, fitted.load_weight) == pytest.approx((SLOWDOWN, CROWDED_LOAD_WEIGHT))
    for model in fitted.models:
        assert model.load_s == pytest.approx(LOAD_S, rel=0.01)
        assert model.decode_tokens_per_s == pytest.approx(DECODE_TOKENS_PER_S, rel=0.01)
        assert model.prefill_tokens_per_s == pytest.approx(PREFILL_TOKENS_PER_S, rel=0.02)


@pytest.mark.parametrize("missing", ["worker serves", "loaded", "request"])
def test_a_log_that_shows_too_little_is_refused(missing: str) -> None:
    """The error names the line that is not there."""
    rest = [line for line in a_simulated_log() if f'"event": "{missing}"' not in line]
    with pytest.raises(NothingShownError, match=missing):
        fit(read_shown(rest))


def test_lines_are_in_order_of_time_in_the_tests_own_log() -> None:
    """Or the test would prove little."""
    arrivals = [json.loads(line)["started_unix"] for line in a_simulated_log() if "started_unix" in line]
    assert all(a <= b for a, b in pairwise(arrivals))
