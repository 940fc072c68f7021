"""A worker that stands still while there is no gateway to notice: the supervisor asks by itself."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

from supervisor.contract.fleet import WorkerState
from tests.support.supervisor import eventually, exists, supervisor

TIMES: Final = {"probe_interval_s": 0.1, "probe_timeout_s": 0.3, "stop_timeout_s": 0.3}


def test_a_worker_that_does_not_answer_is_replaced(tmp_path: Path) -> None:
    """So many unanswered GETs in a row are proof; the gateway of this test says nothing of workers."""
    with supervisor(tmp_path, {"name": "a"}, {"name": "b"}, timings=TIMES) as corral:
        corral.wait_until_ready()
        victim = corral.wait_for("a", state=WorkerState.READY)
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGSTOP)
        successor = corral.wait_for("a", state=WorkerState.READY, incarnation=2)
        assert successor.pid != victim.pid
        assert not exists(victim.pid)
        reasons = [line["reason"] for line in corral.log() if line.get("worker") == "a" and "reason" in line]
        assert "3 probes in a row failed" in reasons
        assert corral.wait_for("b", state=WorkerState.READY).incarnation == 1


def test_workers_that_answer_are_left_alone(tmp_path: Path) -> None:
    """However often they are asked."""
    with supervisor(tmp_path, {"name": "a"}, timings=TIMES | {"probe_interval_s": 0.01}) as corral:
        corral.wait_until_ready()
        eventually(lambda: corral.ask("a")["asked"] >= 20, "some questions")
        assert corral.wait_for("a", state=WorkerState.READY).incarnation == 1
