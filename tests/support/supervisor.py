"""Runs a supervisor as a process of its own and looks at it from outside, as the gateway and people do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from supervisor.contract.fleet import FleetSnapshot, WorkerState, WorkerStatus, decode

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE_S: Final = 20.0
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))

T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, *, within_s: float = PATIENCE_S) -> T:
    """Look until there is something to see, and return it; for what nobody can be asked to announce."""
    deadline = time.monotonic() + within_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.01)
    return seen


def exists(pid: int) -> bool:
    """Return whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def get(url: str) -> bytes:
    """GET, without any proxy of the environment."""
    with _OPENER.open(url, timeout=PATIENCE_S) as response:
        body: bytes = response.read()
    return body


@dataclass(slots=True)
class RunningSupervisor:
    """The process, its runtime directory and what it wrote."""

    process: subprocess.Popen[str]
    directory: Path
    log_file: Path

    @property
    def pid(self) -> int:
        """Of the supervisor itself."""
        return self.process.pid

    def wait_until_ready(self) -> str:
        """Return the URL for clients."""
        assert self.process.stdout is not None
        url = self.process.stdout.readline().strip()
        assert url, self.log_file.read_text()
        return url

    def snapshots(self) -> Iterator[FleetSnapshot]:
        """Yield the current snapshot and then every one that follows."""
        path = str(self.directory / "supervisor.sock")
        eventually(lambda: os.path.exists(path), "the supervisor's socket")  # noqa: PTH110 -- a plain string
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE_S)
            client.connect(path)
            for line in client.makefile("rb"):
                yield decode(line)

    def wait_for(self, worker: str, *, state: WorkerState, incarnation: int = 1) -> WorkerStatus:
        """Return the worker's status once it is in this state in this or a later incarnation."""
        for snapshot in self.snapshots():
            for status in snapshot.workers:
                at_least = status.worker == worker and status.incarnation >= incarnation
                if at_least and status.state is state:
                    return status
        raise AssertionError(f"the supervisor ended:\n{self.log_file.read_text()}")

    def ask(self, worker: str) -> dict[str, Any]:
        """Return what the worker says of itself."""
        about: dict[str, Any] = json.loads(get(self.wait_for(worker, state=WorkerState.READY).base_url))
        return about

    def log(self) -> list[dict[str, Any]]:
        """Return the log so far."""
        lines = self.log_file.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def keeper(self) -> int:
        """Return the keeper's pid, or 0 while there is none."""
        found = (pid for pid in children_of(self.pid) if b"keeper.py" in _command(pid))
        return next(found, 0)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@contextmanager
def supervisor(
    directory: Path,
    *workers: dict[str, Any],
    environ: dict[str, str] | None = None,
    entering: tuple[str, ...] = (),
    **setup: Any,
) -> Iterator[RunningSupervisor]:
    """Run a supervisor over these fake workers (arguments of `fake_spec`); it is gone afterwards.

    `entering` is a command that becomes the one after it.
    """
    setup |= {"directory": str(directory / "run"), "workers": workers}
    log_file = directory / "log"
    shell = {"OLLAMA_FOREIGN": "leaked", "CUDA_VISIBLE_DEVICES": "7", "PYTHONPATH": str(ROOT)}
    environ = os.environ | shell | (environ or {})
    argv = [*entering, sys.executable, "-m", "tests.support.run_supervisor", json.dumps(setup)]
    with (
        log_file.open("w") as log,
        subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=log, text=True, env=environ, cwd=ROOT
        ) as process,
    ):
        try:
            yield RunningSupervisor(process, directory / "run", log_file)
        finally:
            process.kill()
