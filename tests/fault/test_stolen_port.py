"""Somebody takes a worker's port between its choice and the worker's bind."""

from __future__ import annotations

from pathlib import Path

from supervisor.contract.fleet import WorkerState
from tests.support.supervisor import supervisor


def test_the_worker_gets_another_one(tmp_path: Path) -> None:
    """It ends because it cannot listen, and its successor has a port of its own."""
    policy = {"first_delay_s": 0.05, "jitter": 0.0}
    with supervisor(tmp_path, {"name": "a", "behaviour": "stolen"}, {"name": "b"}, policy=policy) as corral:
        corral.wait_until_ready()
        status = corral.wait_for("a", state=WorkerState.READY)
        assert status.incarnation == 2
        assert corral.ask("a")["pid"] == status.pid
        assert corral.wait_for("b", state=WorkerState.READY).incarnation == 1


def test_a_thief_that_answers_as_a_worker_would_is_not_taken_for_one_for_long(tmp_path: Path) -> None:
    """The worker that could not listen ends, and with it what was believed of its port."""
    policy = {"first_delay_s": 0.05, "jitter": 0.0}
    with supervisor(tmp_path, {"name": "a", "behaviour": "stolen answers"}, policy=policy) as corral:
        status = corral.wait_for("a", state=WorkerState.READY, incarnation=2)
        assert corral.ask("a")["pid"] == status.pid
