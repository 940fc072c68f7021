from __future__ import annotations

from dataclasses import replace

from supervisor.contract.changes import KEYS, Applied, applied, in_force
from supervisor.contract.config import Config, GatewayConfig, LogConfig, ModelConfig
from supervisor.core.reload import Arrangement, Fate, Plan, Step, WorkerPlan, plan
from supervisor.core.spec import WorkerSpec
from tests.support.fake_engine import fake_spec


def started_with(spec: WorkerSpec) -> object:
    """Return what makes another process, as most engines do."""
    return spec.gpu_uuids, spec.cpu_cores, spec.num_parallel, spec.memory_bytes


def planned(
    before: tuple[WorkerSpec, ...] = (),
    after: tuple[WorkerSpec, ...] = (),
    old: Config | None = None,
    new: Config | None = None,
) -> Plan:
    """Return the plan between two configurations with these workers."""
    return plan(
        Arrangement(config=old or Config(), specs=before),
        Arrangement(config=new or Config(), specs=after),
        process_of=started_with,
    )


def test_every_key_of_the_file_has_its_way_into_force() -> None:
    """A new key must be told here, and applied, before it can be forgotten."""
    sections = {key.partition(".")[0] for key in KEYS}
    assert sections == set(Config.model_fields)
    for key in KEYS:
        section, _, name = key.partition(".")
        if name:
            assert name in type(getattr(Config(), section)).model_fields


def test_the_same_file_changes_nothing() -> None:
    """No worker is touched and nothing is told."""
    workers = (fake_spec("a"), fake_spec("b"))
    found = planned(workers, workers)
    assert found.changes_nothing
    assert found.steps == ()


def test_a_worker_goes_only_when_its_process_would_be_another() -> None:
    """What the gateway alone minds is told anew, and the models stay."""
    before = fake_spec("a")
    found = planned((before,), (replace(before, max_queue=7, keep_alive_s=None),))
    assert found.workers == (WorkerPlan("a", Fate.ADJUSTED, ("max_queue", "keep_alive")),)
    assert found.steps == ()


def test_changed_workers_go_one_after_the_other() -> None:
    """So the others serve meanwhile."""
    before = (fake_spec("a"), fake_spec("b"), fake_spec("c"))
    found = planned(
        before, (replace(before[0], num_parallel=1), before[1], replace(before[2], num_parallel=1))
    )
    assert [worker.fate for worker in found.workers] == [Fate.CHANGED, Fate.UNCHANGED, Fate.CHANGED]
    assert found.workers[0].keys == ("num_parallel",)
    assert found.steps == (Step(("a",), ("a",)), Step(("c",), ("c",)))


def test_a_new_worker_with_a_gpu_of_its_own_comes_first_and_a_removed_one_goes_last() -> None:
    """There is never less room than need be."""
    before = (fake_spec("a", gpus=("GPU-1",)), fake_spec("b", gpus=("GPU-2",)))
    after = (replace(before[0], num_parallel=1), fake_spec("c", gpus=("GPU-3",)))
    assert planned(before, after).steps == (
        Step((), ("c",)),
        Step(("a",), ("a",)),
        Step(("b",), ()),
    )


def test_a_worker_waits_for_those_who_hold_its_gpu() -> None:
    """A renamed worker, and two that change places."""
    renamed = planned((fake_spec("a", gpus=("GPU-1",)),), (fake_spec("b", gpus=("GPU-1",)),))
    assert renamed.steps == (Step(("a",), ("b",)),)
    swapped = planned(
        (fake_spec("a", gpus=("GPU-1",)), fake_spec("b", gpus=("GPU-2",))),
        (fake_spec("a", gpus=("GPU-2",)), fake_spec("b", gpus=("GPU-1",))),
    )
    assert swapped.steps == (Step(("a", "b"), ("a", "b")),)


def test_a_new_cpu_worker_waits_until_the_others_have_made_room() -> None:
    """Their parts of the memory would be given out twice."""
    before = (fake_spec("a"), fake_spec("b"))
    smaller = tuple(replace(spec, memory_bytes=2**29) for spec in before)
    found = planned(before, (*smaller, fake_spec("c")))
    assert found.steps == (Step(("a",), ("a",)), Step(("b",), ("b", "c")))


def test_keys_are_named_as_the_file_has_them() -> None:
    """Of a section each by itself; what needs a restart of Corral is told and not done."""
    new = Config(
        listen="127.0.0.1:1",
        gateway=GatewayConfig(idle_timeout=1.0, connect_timeout=2.0),
        models={"m": ModelConfig(pin=True)},
        log=LogConfig(level="debug", format="json"),
    )
    found = planned(new=new)
    assert found.in_place == ("models.m", "gateway.connect_timeout", "gateway.idle_timeout", "log.level")
    assert found.by_restart == ("listen", "log.format")
    assert not found.changes_nothing


def test_a_key_of_a_section_goes_before_its_section() -> None:
    """`log.format` cannot change in place although `log.level` can."""
    assert applied("log.format") is Applied.BY_RESTART
    assert applied("log.level") is Applied.IN_PLACE
    assert applied("models.llama3.2") is Applied.IN_PLACE


def test_what_needs_a_restart_is_told_again_until_then() -> None:
    """What is in force has the old values of it, and the new ones of all else."""
    old = Config(log=LogConfig(level="info", format="console"))
    new = Config(listen="127.0.0.1:1", log=LogConfig(level="debug", format="json"))
    now = in_force(old, new)
    assert now == Config(log=LogConfig(level="debug", format="console"))
    assert planned(old=now, new=new).by_restart == ("listen", "log.format")
