from __future__ import annotations

from dataclasses import replace

from gateway.scheduling.types import Left, Unload
from tests.support.scheduler_stage import W0, W1, A, Stage, view


def stage(*, keep_alive_s: float | None = 60.0) -> Stage:
    """Two workers with the model on the first, where it stays so long."""
    workers = [replace(view(instance), keep_alive_s=keep_alive_s) for instance in (W0, W1)]
    stage = Stage(workers)
    stage.feed(Left(stage.arrive(A)))
    return stage


def test_a_probe_takes_a_free_slot_of_the_worker_that_it_is_meant_for() -> None:
    """It avoids all others."""
    stage_ = stage()
    probe = stage_.arrive(A, probe=True, avoid=frozenset({W1}))
    assert stage_.scheduler.leases_on(W0) == 1
    stage_.feed(Left(probe))
    assert stage_.scheduler.leases_on(W0) == 0


def test_a_probe_does_not_keep_a_model_in_memory() -> None:
    """However often it is asked for one token, an idle model leaves when its time is over."""
    stage_ = stage()
    for _ in range(5):
        stage_.now += 15
        stage_.feed(Left(stage_.arrive(A, probe=True, avoid=frozenset({W1}))))
    assert any(isinstance(effect, Unload) for effect in stage_.seen)


def test_a_probe_counts_as_no_demand() -> None:
    """What is learned of how often a model is asked for stays as it was."""
    stage_ = stage()
    rate = stage_.scheduler.estimates.of(A).rate(stage_.now)
    stage_.feed(Left(stage_.arrive(A, probe=True)))
    assert stage_.scheduler.estimates.of(A).rate(stage_.now) == rate
