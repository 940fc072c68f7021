from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.commands.simulate_inputs import read_scenario, study_of
from gateway.simulate.model import Fleet, Job, Request
from gateway.simulate.overrides import Overrides
from gateway.simulate.policies.policy import Policy
from gateway.simulate.policies.registry import POLICY_NAMES, policy_maker
from gateway.simulate.report import figures
from gateway.simulate.simulation import Run, simulate
from supervisor.contract.config import SchedulingConfig
from tests.support.simulated import GB, LOAD_S, a_fleet, jobs_for

SCENARIOS = sorted((Path(__file__).parents[2] / "configs" / "scenarios").glob("*.yaml"))
ROUTERS = ("random", "round-robin", "least-connections", "hash", "resident-first", "earliest-finish")


def run_of(policy: str, fleet: Fleet, asked: Sequence[tuple[float, int, int, int]]) -> Run:
    """Run a policy under its name."""
    return simulate(fleet, jobs_for(fleet, asked), policy_maker(policy, SchedulingConfig()), seed=1)


def waits(run: Run) -> list[float]:
    """Return how long each request had no slot, rounded."""
    return [round(job.waited_s, 3) for job in run.jobs]


def test_there_are_nine_others_and_corral() -> None:
    """By the names that reports use."""
    assert POLICY_NAMES[0] == "corral"
    assert len(POLICY_NAMES) == 10


@pytest.mark.parametrize("policy", [name for name in POLICY_NAMES if name != "zero-swap"])
def test_a_first_request_waits_for_its_load(policy: str) -> None:
    """A second one of the model does not."""
    run = run_of(policy, a_fleet(), [(0, 0, 10, 1), (60, 0, 10, 1)])
    assert waits(run) == [LOAD_S, 0]
    assert run.loads == 1


def test_nothing_is_loaded_where_everything_is_resident() -> None:
    """The ceiling."""
    run = run_of("zero-swap", a_fleet(room_for=1), [(0, 0, 10, 1), (0, 1, 10, 1)])
    assert (waits(run), run.loads) == ([0, 0], 0)


def test_the_ceiling_computes_two_models_at_once_and_no_third() -> None:
    """It would only share the GPU."""
    run = run_of("zero-swap", a_fleet(models=3), [(0, 0, 1000, 1), (0, 1, 1000, 1), (0, 2, 1000, 1)])
    assert waits(run)[:2] == [0, 0]
    assert waits(run)[2] > 0


@pytest.mark.parametrize("policy", [*ROUTERS, "single-ollama"])
def test_in_an_ollama_a_load_at_the_head_blocks_those_behind_it(policy: str) -> None:
    """Though the model of the last one is there and has slots: the first one's is busy and leaves no room."""
    asked = [(0, 0, 10, 100), (20, 1, 10, 1), (21, 0, 10, 1)]
    blocked = run_of(policy, a_fleet(room_for=1), asked).jobs
    assert blocked[2].granted_at > blocked[1].granted_at


@pytest.mark.parametrize("policy", ["central-lru", "corral"])
def test_behind_a_central_queue_it_does_not(policy: str) -> None:
    """Each model has a line of its own."""
    asked = [(0, 0, 10, 100), (20, 1, 10, 1), (21, 0, 10, 1)]
    run = run_of(policy, a_fleet(workers=2, room_for=1), [*asked, (0, 1, 10, 1)])
    assert max(waits(run)[2:]) == 0


@pytest.mark.parametrize("policy", ["single-ollama", "central-lru", *ROUTERS])
def test_the_least_recently_used_model_goes(policy: str) -> None:
    """Model 1 was used after model 0, so that it is still there at the end."""
    asked = [(0, 0, 10, 1), (20, 1, 10, 1), (40, 2, 10, 1), (60, 1, 10, 1)]
    assert run_of(policy, a_fleet(models=3, room_for=2), asked).loads == 3


def test_hash_keeps_a_model_on_one_worker() -> None:
    """One load, however long its line."""
    assert run_of("hash", a_fleet(workers=4), [(0, 1, 10, 50)] * 20).loads == 1


def test_round_robin_takes_all_workers_in_turn() -> None:
    """Each loads the model."""
    assert run_of("round-robin", a_fleet(workers=4), [(0, 1, 10, 50)] * 4).loads == 4


def test_least_connections_goes_where_least_is_unanswered() -> None:
    """Two requests on two workers, whatever is resident."""
    assert run_of("least-connections", a_fleet(workers=2), [(0, 0, 10, 50)] * 2).loads == 2


def test_resident_first_goes_where_the_model_is() -> None:
    """However busy that worker is."""
    asked = [(0, 0, 10, 1), *[(30.0, 0, 10, 50)] * 10]
    assert run_of("resident-first", a_fleet(workers=2), asked).loads == 1


def test_earliest_finish_weighs_a_line_against_a_load() -> None:
    """A few wait for the model's slots; when that is longer than a load, the next ones load it elsewhere."""
    few = [(0, 0, 10, 1), *[(30.0, 0, 10, 50)] * 2]
    many = [(0, 0, 10, 1), *[(30.0, 0, 10, 50)] * 10]
    assert run_of("earliest-finish", a_fleet(workers=2), few).loads == 1
    assert run_of("earliest-finish", a_fleet(workers=2), many).loads == 2


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_a_model_goes_only_where_it_fits(policy: str) -> None:
    """Model 1 is too large for the first worker."""
    fleet = a_fleet(workers=2, room_for=3)
    large = replace(fleet.models[1], size_bytes=2 * GB)
    small = replace(fleet.workers[0], memory_bytes=GB)
    fleet = Fleet((fleet.models[0], large), (small, fleet.workers[1]))
    run = run_of(policy, fleet, [(float(at), at % 2, 100, 5) for at in range(40)])
    assert len(run.jobs) == 40


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_an_unload_may_take_time(policy: str) -> None:
    """A load waits for the room."""
    fleet = a_fleet(room_for=1)
    slow = Fleet(fleet.models, (replace(fleet.workers[0], unload_s=2.5),))
    run = run_of(policy, slow, [(0, 0, 10, 1), (30, 1, 10, 1)])
    held_s = 0.25 if policy == "corral" else 0.0  # until the wait is worth the eviction
    assert waits(run)[1] == pytest.approx(0 if policy == "zero-swap" else LOAD_S + 2.5, abs=held_s)


class Watched(Policy):
    """Looks for anything that tells how long an answer will be."""

    def arrived(self, request: Request) -> None:
        assert not isinstance(request, Job)
        assert not any("output" in name for name in dir(request))
        self.machine.hold_everything()
        self.machine.start(request, self.machine.workers[0])

    def finished(self, request: Request, worker: object, output_tokens: int) -> None:
        assert (request.index, output_tokens, worker) == (0, 7, self.machine.workers[0])


def test_no_policy_knows_how_long_an_answer_will_be() -> None:
    """It is told when the answer is there."""
    fleet = a_fleet()
    simulate(fleet, jobs_for(fleet, [(0, 0, 10, 7)]), Watched, seed=1)


@pytest.mark.parametrize("policy", POLICY_NAMES)
@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_the_shipped_scenarios_run_under_every_policy(file: Path, policy: str) -> None:
    """With few requests here."""
    study = study_of(read_scenario(str(file)), Overrides(requests=120), rho=None, log=None)
    run = study.run(policy, 0.2, seed=1)
    assert len(run.jobs) > 60
    assert 0 < figures(run).jain <= 1
