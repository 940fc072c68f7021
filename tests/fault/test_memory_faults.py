"""What is told, and what it costs, when the kernel kills workers or their runners for memory."""

from __future__ import annotations

import http.client
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.contract.fleet import WorkerState, WorkerStatus
from tests.support.memory_cgroup import MemoryGroup, NoMemoryGroupError, memory_group
from tests.support.supervisor import RunningSupervisor, supervisor

POLICY = {"first_delay_s": 0.01, "jitter": 0.0}
LIMIT_BYTES = 256 * 2**20
RAN_OUT = "killed by signal 9: the kernel killed it because memory ran out"


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    """A group in which the kernel kills; without the right to make one there is nothing to see."""
    try:
        with memory_group(LIMIT_BYTES) as group:
            yield group
    except NoMemoryGroupError as error:
        pytest.skip(str(error))


def hungry(corral: RunningSupervisor, path: str) -> WorkerStatus:
    """Have the first worker eat; return what it was before."""
    status = corral.wait_for("a", state=WorkerState.READY)
    connection = http.client.HTTPConnection(status.base_url.removeprefix("http://"), timeout=20)
    with suppress(ConnectionError, http.client.HTTPException):
        connection.request("GET", path)
        connection.getresponse().read()
    connection.close()
    return status


def wait_until_withheld(corral: RunningSupervisor) -> WorkerStatus:
    """Return the first worker once memory is withheld from it."""
    for snapshot in corral.snapshots():
        if snapshot.workers[0].withheld_bytes:
            return snapshot.workers[0]
    raise AssertionError(f"the supervisor ended:\n{corral.log_file.read_text()}")


def reasons(corral: RunningSupervisor) -> list[str]:
    """Return why workers were started again."""
    return [line["reason"] for line in corral.log() if line["event"] == "backoff"]


def test_a_worker_that_the_kernel_killed_is_told_as_such_and_gets_less(
    tmp_path: Path, group: MemoryGroup
) -> None:
    """It is back after a moment; its neighbour, supervisor and gateway notice nothing.

    Seeded away: `runtime.cause_of_death` in supervisor/app.py.
    """
    with supervisor(tmp_path, {"name": "a"}, {"name": "b"}, entering=group.entering, policy=POLICY) as corral:
        corral.wait_until_ready()
        before = hungry(corral, "/eat")
        status = corral.wait_for("a", state=WorkerState.READY, incarnation=2)
        assert reasons(corral)[0].startswith(RAN_OUT)
        assert status.withheld_bytes == pytest.approx(before.memory_bytes / 5, rel=0.01)
        assert status.memory_bytes == before.memory_bytes - status.withheld_bytes
        assert "killed a process of it once within an hour" in status.condition
        other = corral.wait_for("b", state=WorkerState.READY)
        assert (other.incarnation, other.condition) == (1, "")
        assert corral.stop() == 0


def test_a_runner_that_the_kernel_killed_costs_its_worker_memory_and_not_its_life(
    tmp_path: Path, group: MemoryGroup
) -> None:
    """The worker says only that a runner died; the kernel's count says why."""
    with supervisor(tmp_path, {"name": "a"}, entering=group.entering, policy=POLICY) as corral:
        corral.wait_until_ready()
        hungry(corral, "/eat-runner")
        status = wait_until_withheld(corral)
        assert (status.state, status.incarnation) == (WorkerState.READY, 1)
        assert "memory ran out" in status.condition
        assert corral.stop() == 0


def test_a_worker_that_somebody_killed_did_not_run_out_of_memory(tmp_path: Path) -> None:
    """The same signal; the kernel's count tells them apart."""
    with supervisor(tmp_path, {"name": "a"}, policy=POLICY) as corral:
        corral.wait_until_ready()
        pid = corral.wait_for("a", state=WorkerState.READY).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        status = corral.wait_for("a", state=WorkerState.READY, incarnation=2)
        assert reasons(corral)[0].startswith("killed by signal 9 (crash 1)")
        assert (status.withheld_bytes, status.condition) == (0, "")


def test_a_gpu_worker_that_finds_no_gpu_is_started_again_and_then_given_up(tmp_path: Path) -> None:
    """An Ollama would serve on from the CPU, a hundred times slower, and say so only in its log.

    Seeded away: the line with NO_GPU in supervisor/memory_care.py.
    """
    worker = {"name": "a", "behaviour": "blind", "gpus": ["GPU-1"]}
    policy = POLICY | {"quarantine_crashes": 3}
    with supervisor(tmp_path, worker, policy=policy) as corral:
        status = corral.wait_for("a", state=WorkerState.QUARANTINED)
        assert status.incarnation == 3
        assert status.reason.startswith("it found no GPU and would compute on the CPU: see what")


def test_a_cpu_worker_finds_no_gpu_and_that_is_right(tmp_path: Path) -> None:
    """The same line from it is the plain truth."""
    with supervisor(tmp_path, {"name": "a", "behaviour": "blind"}, policy=POLICY) as corral:
        corral.wait_until_ready()
        assert corral.wait_for("a", state=WorkerState.READY).incarnation == 1
