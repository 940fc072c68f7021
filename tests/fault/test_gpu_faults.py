"""What becomes of workers when their GPUs fail, one by one, while others go on.

The GPUs are the stand-in's (tests/support/fake_nvml.c), the supervisor and its workers real processes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from supervisor.contract.fleet import WorkerState, WorkerStatus
from tests.support.fake_nvml import LiveGpus, build_fake_nvml, environment, uuid_of
from tests.support.supervisor import RunningSupervisor, eventually, exists, get, supervisor

POLICY = {"first_delay_s": 0.01, "jitter": 0.0}
GIB = 2**30


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the stand-in for NVIDIA's library."""
    return build_fake_nvml(tmp_path_factory.mktemp("nvml"))


@dataclass(slots=True)
class Box:
    """A supervisor with one worker on each of two GPUs."""

    corral: RunningSupervisor
    gpus: LiveGpus

    def wait_for(self, worker: str, reached: Callable[[WorkerStatus], bool]) -> WorkerStatus:
        """Return the worker's status once it is so."""
        for snapshot in self.corral.snapshots():
            for status in snapshot.workers:
                if status.worker == worker and reached(status):
                    return status
        raise AssertionError(f"the supervisor ended:\n{self.corral.log_file.read_text()}")

    def now(self, worker: str) -> WorkerStatus:
        """Return the worker's status now."""
        return self.wait_for(worker, lambda _: True)

    def quarantined(self, worker: str) -> WorkerStatus:
        """Return the worker's status once it rests."""
        return self.wait_for(worker, lambda status: status.state is WorkerState.QUARANTINED)

    def ready(self, worker: str, incarnation: int) -> WorkerStatus:
        """Return the worker's status once it is ready in this incarnation or a later one."""
        return self.corral.wait_for(worker, state=WorkerState.READY, incarnation=incarnation)

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return what was logged so far under this name."""
        return [line for line in self.corral.log() if event in line["event"]]


@contextmanager
def box(directory: Path, library: Path, **setup: Any) -> Iterator[Box]:
    """Run it; both workers are ready."""
    gpus = LiveGpus(directory / "gpus")
    workers = [{"name": f"gpu{at}", "gpus": [uuid_of(at)]} for at in range(2)]
    environ = environment(library, gpus=2) | gpus.variables()
    with supervisor(directory, *workers, environ=environ, policy=POLICY, **setup) as corral:
        corral.wait_until_ready()
        yield Box(corral, gpus)


@pytest.fixture
def running(tmp_path: Path, library: Path) -> Iterator[Box]:
    """Two workers on two GPUs."""
    with box(tmp_path, library) as running:
        yield running
        assert running.corral.stop() == 0


def test_a_lost_card_quarantines_its_worker_alone_until_it_is_back(running: Box) -> None:
    """Its process is ended, which hangs in a driver that lost it; the other worker notices nothing.

    Seeded away: `self.runtime.condemn(...)` or `pardon` in supervisor/gpu_care.py.
    """
    before = running.now("gpu1")
    running.gpus.set(lost=1)
    status = running.quarantined("gpu1")
    assert status.reason.startswith(f"{uuid_of(1)} is lost (GPU is lost): `dmesg")
    assert status.condition == status.reason
    assert before.pid is not None
    assert not exists(before.pid)
    assert (running.now("gpu0").state, running.now("gpu0").incarnation) == (WorkerState.READY, 1)
    running.gpus.unset("lost")
    assert running.ready("gpu1", incarnation=2).condition == ""


def test_a_card_that_vanishes_from_the_list_is_lost_too(running: Box) -> None:
    """As after its slot was powered off."""
    running.gpus.set(count=1)
    assert "is lost (Not Found)" in running.quarantined("gpu1").reason
    running.gpus.unset("count")
    running.ready("gpu1", incarnation=2)


def test_a_worker_whose_card_is_lost_does_not_come_back_by_dying(running: Box) -> None:
    """A quarantine for a lost card has no end of its own: the other worker's restart takes longer."""
    running.gpus.set(lost=1)
    running.quarantined("gpu1")
    for incarnation in (1, 2, 3):
        pid = running.ready("gpu0", incarnation).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    running.ready("gpu0", 4)
    assert running.now("gpu1").state is WorkerState.QUARANTINED
    assert running.now("gpu1").incarnation == 1


@pytest.mark.parametrize("xid", [79, 95, 119])
def test_a_grave_xid_gives_the_card_a_rest(running: Box, xid: int) -> None:
    """Only a reset helps, so nothing computes there for ten minutes."""
    running.gpus.xid(1, xid)
    assert f"Xid {xid}, " in running.quarantined("gpu1").reason
    assert running.now("gpu0").incarnation == 1


def test_an_xid_that_spoils_a_context_restarts_the_worker(running: Box) -> None:
    """Once; the next process is a new context on a card that works."""
    running.gpus.xid(1, 94)
    assert running.ready("gpu1", incarnation=2).incarnation == 2
    reasons = [line["reason"] for line in running.events("backoff")]
    assert len(reasons) == 1
    assert "Xid 94, a memory error that stayed within one program (crash 1)" in reasons[0]
    assert running.now("gpu0").incarnation == 1


def test_other_xids_are_told_and_nothing_else(running: Box) -> None:
    """31 is mostly a program's own fault."""
    running.gpus.xid(0, 31)
    status = running.wait_for("gpu0", lambda status: bool(status.condition))
    assert "Xid 31" in status.condition
    assert (status.state, status.incarnation) == (WorkerState.READY, 1)


def test_uncorrected_memory_errors_that_grow_restart_the_worker(running: Box) -> None:
    """Those that were there before are nobody's now."""
    running.gpus.set(ecc_0=7, ecc_1=7, throttle_1=64)
    running.wait_for("gpu1", lambda status: "runs slower" in status.condition)
    running.gpus.set(ecc_0=8)
    running.ready("gpu0", incarnation=2)
    assert "1 more memory error that could not be corrected" in running.events("backoff")[0]["reason"]
    assert running.now("gpu1").incarnation == 1


def test_a_row_that_waits_for_its_spare_and_heat_are_told(running: Box) -> None:
    """The worker goes on; the words go when the reason does."""
    running.gpus.set(remap_0=1, throttle_0=32)
    told = running.wait_for("gpu0", lambda status: ";" in status.condition).condition
    assert "waits for its replacement" in told
    assert "it is too hot" in told
    running.gpus.unset("remap_0", "throttle_0")
    status = running.wait_for("gpu0", lambda status: not status.condition)
    assert (status.state, status.incarnation) == (WorkerState.READY, 1)


def test_memory_that_a_foreign_program_takes_is_withheld_while_it_lasts(running: Box) -> None:
    """The scheduler plans with what the snapshot says; the program is named."""
    given = running.now("gpu1").memory_bytes
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        running.gpus.set(pid_1=stranger.pid, mib_1=22 * 1024)
        status = running.wait_for("gpu1", lambda status: bool(status.withheld_bytes))
        assert f"(pid {stranger.pid}) holds 22.0 GiB of its memory" in status.condition
        assert status.memory_bytes == given - status.withheld_bytes
        assert status.withheld_bytes == pytest.approx(22 * GIB - (22.08 * GIB - given), rel=0.01)
        assert running.now("gpu0").withheld_bytes == 0
        stranger.terminate()
    status = running.wait_for("gpu1", lambda status: not status.withheld_bytes)
    assert (status.memory_bytes, status.condition) == (given, "")
    assert status.incarnation == 1


def test_our_own_workers_are_nobody_foreign(running: Box) -> None:
    """They carry the mark of this boot, as do their runners."""
    running.gpus.set(pid_0=running.now("gpu0").pid or 0, mib_0=20 * 1024, throttle_0=64)
    status = running.wait_for("gpu0", lambda status: bool(status.condition))
    assert "holds" not in status.condition
    assert status.withheld_bytes == 0


def test_a_driver_that_vanishes_ends_nobody_and_is_told_once(running: Box) -> None:
    """Nothing is concluded from what nobody knows; when it is back, cards are watched again."""
    running.gpus.set(vanished=9)
    eventually(lambda: running.events("does not answer"), "the news")
    running.gpus.unset("vanished")
    eventually(lambda: running.events("answers again"), "the news")
    assert len(running.events("does not answer")) == 1
    assert [running.now(name).incarnation for name in ("gpu0", "gpu1")] == [1, 1]
    running.gpus.set(lost=0)
    running.quarantined("gpu0")


def test_a_driver_that_hangs_ends_nobody_and_delays_nothing(tmp_path: Path, library: Path) -> None:
    """The supervisor restarts workers, answers and ends as ever, with a thread that never returns."""
    with box(tmp_path, library, gpu_silence_s=0.2) as running:
        running.gpus.set(hang=1)
        eventually(lambda: running.events("does not answer"), "the news")
        pid = running.now("gpu0").pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        status = running.ready("gpu0", incarnation=2)
        assert get(status.base_url)
        assert running.now("gpu1").incarnation == 1
        assert running.corral.stop() == 0


def test_a_machine_without_gpus_is_not_watched(tmp_path: Path, library: Path) -> None:
    """No thread, no library, no word."""
    with supervisor(tmp_path, {"name": "cpu"}, environ=environment(library, gpus=2)) as corral:
        corral.wait_until_ready()
        names = [path.read_text().strip() for path in Path(f"/proc/{corral.pid}/task").glob("*/comm")]
        assert len(names) == 1, names
        assert "libnvidia-ml" not in Path(f"/proc/{corral.pid}/maps").read_text()
