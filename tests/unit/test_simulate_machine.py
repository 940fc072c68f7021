from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulate.machine import AnswerWritten, Loaded, Machine, PromptRead, RuleBrokenError, Unloaded
from gateway.simulate.model import Fleet, Job, Request
from gateway.simulate.policies.policy import Policy
from gateway.simulate.policies.registry import POLICY_NAMES, policy_maker
from gateway.simulate.simulation import Run, StalledError, simulate
from supervisor.contract.config import SchedulingConfig
from tests.support.simulated import DECODE_TOKENS_PER_S, LOAD_S, SLOWDOWN, a_fleet, jobs_for

ASKED = st.lists(
    st.tuples(st.floats(0, 60), st.integers(0, 2), st.integers(1, 3000), st.integers(1, 40)),
    min_size=1,
    max_size=25,
)


def on_warm_machine(fleet: Fleet, jobs: list[Job]) -> Machine:
    """Start all jobs at once on the first worker, which holds everything."""
    machine = Machine(fleet, jobs)
    machine.hold_everything()
    for job in jobs:
        machine.start(job.request, machine.workers[0])
    while machine.next_at() < float("inf"):
        machine.step()
    return machine


def test_a_request_alone_takes_its_prompt_and_its_answer() -> None:
    """1000 tokens at 1000 a second, then 20 at 10 a second."""
    fleet = a_fleet()
    jobs = jobs_for(fleet, [(0, 0, 1000, 20)])
    on_warm_machine(fleet, jobs)
    assert jobs[0].first_token_at == pytest.approx(1.0 + 1 / DECODE_TOKENS_PER_S)
    assert jobs[0].finished_at == pytest.approx(3.0)


def test_two_models_share_a_gpu_evenly() -> None:
    """Each takes twice as long."""
    fleet = a_fleet()
    jobs = jobs_for(fleet, [(0, 0, 1000, 20), (0, 1, 1000, 20)])
    on_warm_machine(fleet, jobs)
    assert [job.finished_at for job in jobs] == [pytest.approx(6.0)] * 2


def test_a_load_with_a_weight_and_a_model_that_computes_slow_each_other() -> None:
    """A load of 4 s takes 8 s beside an answer of 10 s, which then ends 4 s later than it would alone."""
    fleet = a_fleet()
    fleet = replace(fleet, workers=tuple(replace(worker, load_weight=1.0) for worker in fleet.workers))
    jobs = jobs_for(fleet, [(0, 0, 1000, 90)])
    machine = Machine(fleet, jobs)
    machine.load(fleet.models[0], machine.workers[0])
    assert machine.next_at() == LOAD_S
    machine.step()
    machine.start(jobs[0].request, machine.workers[0])
    machine.load(fleet.models[1], machine.workers[0])
    loaded_at = 0.0
    while machine.next_at() < float("inf"):
        if isinstance(machine.step(), Loaded):
            loaded_at = machine.now
    assert loaded_at == pytest.approx(LOAD_S + 2 * LOAD_S)
    assert jobs[0].finished_at == pytest.approx(LOAD_S + 10.0 + LOAD_S)


def test_prompts_share_and_answers_batch() -> None:
    """Two prompts take as long as both together; two answers are slowed by the batch's share only."""
    fleet = a_fleet()
    jobs = jobs_for(fleet, [(0, 0, 1000, 20), (0, 0, 1000, 20)])
    on_warm_machine(fleet, jobs)
    assert [job.finished_at for job in jobs] == [pytest.approx(2.0 + 2.0 * (1 + SLOWDOWN))] * 2


def test_a_model_that_reads_and_writes_spends_half_on_each() -> None:
    """The answer has had one second when the second prompt comes, which then takes two."""
    fleet = a_fleet()
    jobs = jobs_for(fleet, [(0, 0, 1000, 20), (2, 0, 1000, 1)])
    run = simulate(fleet, jobs, policy_maker("zero-swap", SchedulingConfig()), seed=1)
    assert jobs[0].finished_at == pytest.approx(4.0)
    assert jobs[1].first_token_at == pytest.approx(4.0 + 1 / DECODE_TOKENS_PER_S)
    assert sum(run.busy_s) == pytest.approx(4.0 + 1 / DECODE_TOKENS_PER_S)


def test_a_load_takes_time_and_room_and_then_tells() -> None:
    """An unload gives the room back."""
    fleet = a_fleet()
    machine = Machine(fleet, [])
    worker, model = machine.workers[0], fleet.models[0]
    machine.load(model, worker)
    assert worker.free_bytes == model.size_bytes
    assert machine.next_at() == LOAD_S
    assert isinstance(machine.step(), Loaded)
    machine.unload(model, worker)
    assert machine.step() == Unloaded(worker, model)
    assert worker.free_bytes == 2 * model.size_bytes
    assert machine.loads == 1


def test_what_happens_is_told_in_order() -> None:
    """The prompt first, then the answer."""
    fleet = a_fleet()
    jobs = jobs_for(fleet, [(0, 0, 1000, 20)])
    machine = Machine(fleet, jobs)
    machine.hold_everything()
    machine.start(jobs[0].request, machine.workers[0])
    assert machine.next_at() == pytest.approx(1.0)
    assert machine.step() == PromptRead(jobs[0])
    assert machine.next_at() == pytest.approx(3.0)
    assert machine.step() == AnswerWritten(machine.workers[0], jobs[0])


def test_nobody_gets_more_slots_than_there_are() -> None:
    """The third request on two slots."""
    fleet = a_fleet(slots=2)
    jobs = jobs_for(fleet, [(0, 0, 10, 1)] * 3)
    with pytest.raises(RuleBrokenError, match="m0 has no free slot on gpu0"):
        on_warm_machine(fleet, jobs)


def test_a_worker_loads_one_model_at_a_time() -> None:
    """However much room there is."""
    machine = Machine(a_fleet(), [])
    machine.load(machine.models[0], machine.workers[0])
    with pytest.raises(RuleBrokenError, match=r"gpu0 cannot load m1: .* a load runs"):
        machine.load(machine.models[1], machine.workers[0])


@pytest.mark.parametrize("limit", ["memory", "max_loaded_models"])
def test_a_worker_holds_no_more_than_it_may(limit: str) -> None:
    """By bytes or by number."""
    fleet = a_fleet(room_for=1 if limit == "memory" else 2)
    if limit == "max_loaded_models":
        fleet = replace(fleet, workers=(replace(fleet.workers[0], max_loaded_models=1),))
    machine = Machine(fleet, [])
    machine.load(machine.models[0], machine.workers[0])
    machine.next_at()
    machine.step()
    with pytest.raises(RuleBrokenError, match="gpu0 cannot load m1"):
        machine.load(machine.models[1], machine.workers[0])


def test_a_busy_model_cannot_be_unloaded() -> None:
    """A request holds it."""
    fleet = a_fleet()
    jobs = jobs_for(fleet, [(0, 0, 10, 1)])
    machine = Machine(fleet, jobs)
    machine.hold_everything()
    machine.start(jobs[0].request, machine.workers[0])
    with pytest.raises(RuleBrokenError, match="m0 cannot be unloaded"):
        machine.unload(machine.models[0], machine.workers[0])


class Deaf(Policy):
    """Does nothing with what it is given."""

    def arrived(self, request: Request) -> None:
        pass

    def finished(self, request: Request, worker: object, output_tokens: int) -> None:
        raise AssertionError((request, worker, output_tokens))


def test_a_policy_that_loses_requests_is_found_out() -> None:
    """Rather than that the simulation never ends, or ends well."""
    fleet = a_fleet()
    with pytest.raises(StalledError, match="2 requests wait and nothing happens"):
        simulate(fleet, jobs_for(fleet, [(0, 0, 10, 1), (1, 0, 10, 1)]), Deaf, seed=1)


def run_of(policy: str, fleet: Fleet, asked: list[tuple[float, int, int, int]]) -> Run:
    """Run a policy; the machine raises when it oversteps."""
    return simulate(fleet, jobs_for(fleet, asked), policy_maker(policy, SchedulingConfig()), seed=1)


@pytest.mark.parametrize("policy", POLICY_NAMES)
@given(asked=ASKED)
def test_work_done_is_work_offered(policy: str, asked: list[tuple[float, int, int, int]]) -> None:
    """The GPUs' time lies between full batches and one after the other; no second is spent twice."""
    fleet = a_fleet(workers=2, models=3, room_for=2)
    run = run_of(policy, fleet, asked)
    speeds = fleet.workers[0].speeds[0]
    full = sum(
        fleet.work_s(job.request.model, job.request.prompt_tokens, job.output_tokens) for job in run.jobs
    )
    alone = sum(
        job.request.prompt_tokens / speeds.prefill_tokens_per_s
        + job.output_tokens / speeds.decode_tokens_per_s
        for job in run.jobs
    )
    assert full - 1e-6 <= sum(run.busy_s) <= alone + 1e-6
    assert all(busy_s <= run.ended_at + 1e-6 for busy_s in run.busy_s)


@pytest.mark.parametrize("policy", POLICY_NAMES)
@given(asked=ASKED)
def test_every_request_is_answered_in_its_time(policy: str, asked: list[tuple[float, int, int, int]]) -> None:
    """No sooner than a GPU of its own could."""
    fleet = a_fleet(workers=2, models=3, room_for=2)
    speeds = fleet.workers[0].speeds[0]
    for job in run_of(policy, fleet, asked).jobs:
        prompt_s = job.request.prompt_tokens / speeds.prefill_tokens_per_s
        assert job.granted_at >= job.request.arrived_at
        assert job.first_token_at >= job.granted_at + prompt_s - 1e-6
        assert job.finished_at >= job.first_token_at - 1e-6


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_the_same_arguments_give_the_same_run(policy: str) -> None:
    """To the last bit."""
    chance = Random(5)
    asked = [(chance.uniform(0, 200), chance.randrange(3), chance.randrange(1, 999), 9) for _ in range(200)]
    fleet = a_fleet(workers=2, models=3, room_for=1)
    one, other = ([job.finished_at for job in run_of(policy, fleet, asked).jobs] for _ in range(2))
    assert one == other


@pytest.mark.parametrize("policy", [name for name in POLICY_NAMES if name != "corral"])
def test_requests_of_one_model_and_tenant_start_in_order_on_one_worker(policy: str) -> None:
    """First come, first served; Corral's own order is the scheduler's to promise."""
    fleet = a_fleet(workers=1, models=3, room_for=2)
    run = run_of(policy, fleet, [(at / 10, at % 3, 100, 5) for at in range(60)])
    for model in fleet.models:
        starts = [job.granted_at for job in run.jobs if job.request.model is model]
        assert all(one <= other for one, other in pairwise(starts))
