"""What a reload promises of any two configurations: nobody is touched without need, nothing stands twice."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.contract.config import Config
from supervisor.core.reload import Arrangement, Fate, Plan, plan
from supervisor.core.spec import WorkerSpec
from tests.support.fake_engine import fake_spec

GPUS = ("GPU-0", "GPU-1", "GPU-2")
Workers = dict[str, WorkerSpec]


def process_of(spec: WorkerSpec) -> object:
    """Return what makes another process."""
    return spec.gpu_uuids, spec.num_parallel


@st.composite
def workers(draw: st.DrawFn) -> tuple[WorkerSpec, ...]:
    """Draw some workers; several may share a GPU."""
    names = draw(st.lists(st.sampled_from("abcde"), unique=True, max_size=5))
    gpus = st.lists(st.sampled_from(GPUS), unique=True, max_size=2).map(tuple)
    return tuple(
        replace(
            fake_spec(name, gpus=draw(gpus)),
            num_parallel=draw(st.integers(1, 2)),
            max_queue=draw(st.integers(1, 2)),
        )
        for name in names
    )


def planned(old: tuple[WorkerSpec, ...], new: tuple[WorkerSpec, ...]) -> Plan:
    """Return the plan between them."""
    config = Config()
    return plan(
        Arrangement(config=config, specs=old), Arrangement(config=config, specs=new), process_of=process_of
    )


@settings(max_examples=400, deadline=None)
@given(old=workers(), new=workers())
def test_the_plan_leads_from_one_configuration_to_the_other(
    old: tuple[WorkerSpec, ...], new: tuple[WorkerSpec, ...]
) -> None:
    """Step by step: who is stopped runs, who is started does not, and in the end all are as they should."""
    found = planned(old, new)
    running: Workers = {spec.name: spec for spec in old}
    wanted: Workers = {spec.name: spec for spec in new}
    kept = {w.name for w in found.workers if w.fate in (Fate.UNCHANGED, Fate.ADJUSTED)}
    for step in found.steps:
        assert step.stop or step.start, "a step that does nothing"
        for name in step.stop:
            assert name not in kept, "a worker is stopped that could have stayed"
            del running[name]
        for name in step.start:
            assert name not in running, "two processes of one name"
            _check_room(name, wanted, running, kept)
            running[name] = wanted[name]
    assert set(running) == set(wanted)
    for name, spec in running.items():
        assert process_of(spec) == process_of(wanted[name])


def _check_room(name: str, wanted: Workers, running: Workers, kept: set[str]) -> None:
    """Whoever still runs beside it on a GPU is as the new file wants it there."""
    for other in running.values():
        if not set(other.gpu_uuids).isdisjoint(wanted[name].gpu_uuids):
            assert other.name in kept or other == wanted.get(other.name), "the GPU is not free yet"


@settings(max_examples=200, deadline=None)
@given(old=workers(), new=workers())
def test_every_worker_has_one_fate_and_it_is_the_mildest(
    old: tuple[WorkerSpec, ...], new: tuple[WorkerSpec, ...]
) -> None:
    """Nobody is restarted who need not be, and the keys are told exactly of those that changed."""
    before, after = {s.name: s for s in old}, {s.name: s for s in new}
    found = {worker.name: worker for worker in planned(old, new).workers}
    assert set(found) == set(before) | set(after)
    for name, worker in found.items():
        was, is_ = before.get(name), after.get(name)
        if was is None:
            expected = Fate.NEW
        elif is_ is None:
            expected = Fate.REMOVED
        elif was == is_:
            expected = Fate.UNCHANGED
        else:
            expected = Fate.ADJUSTED if process_of(was) == process_of(is_) else Fate.CHANGED
        assert worker.fate is expected
        assert bool(worker.keys) == (expected in (Fate.ADJUSTED, Fate.CHANGED))


@settings(max_examples=200, deadline=None)
@given(same=workers())
def test_the_same_workers_are_left_alone(same: tuple[WorkerSpec, ...]) -> None:
    """A reload without a change is none."""
    assert planned(same, same).changes_nothing


@settings(max_examples=200, deadline=None)
@given(old=workers(), new=workers())
def test_somebody_serves_as_long_as_possible(
    old: tuple[WorkerSpec, ...], new: tuple[WorkerSpec, ...]
) -> None:
    """Where all GPUs are different, no step takes more than one changed worker away at once."""
    apart = [replace(spec, gpu_uuids=(f"GPU-{spec.name}",)) for spec in (*old, *new)]
    found = planned(tuple(apart[: len(old)]), tuple(apart[len(old) :]))
    changed = {worker.name for worker in found.workers if worker.fate is Fate.CHANGED}
    for step in found.steps:
        assert len(changed & set(step.stop)) <= 1
