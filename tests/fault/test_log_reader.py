"""Whoever reads the log: he may leave, stop to read, or never have been there; serving goes on."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.request import Request, urlopen

import pytest

from tests.support.aftermath import assert_all_is_back
from tests.support.corral import COMMAND, CONFIG, Corral, plain_environment, write_config
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES, environment, import_models
from tests.support.supervisor import PATIENCE_S, eventually, get

SMALLEST_PIPE: Final = 4096
ASKS: Final = 40
"""Each is a line of the log, or more: together several times what the smallest pipe holds."""


@contextmanager
def logging_to(directory: Path, stderr: int | None, engine: str = "embedded") -> Iterator[Corral]:
    """Run `corral up` whose standard error is this descriptor; None is closed."""
    model, environ = counting_model(directory / "models"), plain_environment()
    if engine == "ollama":
        import_models(directory / "store", model)
        environ = environment(directory)
    defaults = {**CONFIG["worker_defaults"], "engine": engine}
    file = write_config(directory, worker_defaults=defaults, workers=[{"name": "w0"}])
    argv = [COMMAND, "up", "--config", str(file)]
    if stderr is None:
        argv = ["sh", "-c", 'exec "$@" 2>&-', "sh", *argv]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("Corral is ready: ")
            yield Corral(process, directory, line.split()[3], engine)
        finally:
            process.terminate()
            try:
                assert process.wait(PATIENCE_S) == 0
            finally:
                process.kill()  # what does not end must not be waited for


def serves(running: Corral, asks: int = ASKS) -> None:
    """Ask so often, of gateway, worker and supervisor; every answer is whole."""
    order = b'{"model": "count", "prompt": "1 2", "stream": false, "options": {"num_predict": 1}}'
    for _ in range(asks):
        with urlopen(Request(f"{running.url}/api/generate", order), timeout=PATIENCE_S) as response:
            assert b'"done":true' in response.read()


def replaces_its_worker(running: Corral) -> None:
    """Kill the worker: supervisor and gateway have much to say about it."""
    worker = running.worker("w0")
    os.kill(worker["pid"], 9)
    running.wait_until_replaced("w0", after=worker["incarnation"])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_reader_that_has_gone_stops_nothing(tmp_path: Path, engine: str) -> None:
    """`corral up 2>&1 | head`: every further line is a broken pipe."""
    reading, writing = os.pipe()
    with logging_to(tmp_path, writing, engine) as running:
        os.close(writing)
        serves(running, 1)
        os.close(reading)
        serves(running)
        replaces_its_worker(running)
        serves(running, 1)
        assert_all_is_back(running)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_reader_that_stopped_stops_nothing_and_is_told_what_he_missed(tmp_path: Path, engine: str) -> None:
    """`corral up 2>&1 | less`: the pipe is full, and nobody waits for it."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
    with logging_to(tmp_path, writing, engine) as running:
        serves(running)
        replaces_its_worker(running)
        os.set_blocking(reading, False)
        assert len(os.read(reading, 2**20)) <= SMALLEST_PIPE
        serves(running, 2)
        eventually(lambda: b"log lines could not be written" in os.read(reading, 2**20), "it is told")
        assert_all_is_back(running)
    os.close(writing)
    os.close(reading)


@pytest.mark.parametrize("stderr", ["closed", "full"])
def test_a_log_that_leads_nowhere_stops_nothing(tmp_path: Path, stderr: str) -> None:
    """Closed as some daemons are started, or a disk without room."""
    full = os.open("/dev/full", os.O_WRONLY)
    with logging_to(tmp_path, None if stderr == "closed" else full) as running:
        os.close(full)
        serves(running, 3)
        replaces_its_worker(running)
        serves(running, 3)
        assert json_is_untouched(running)
        assert_all_is_back(running)


def json_is_untouched(running: Corral) -> bool:
    """Whether answers are still answers: a log line must not get into some other file's number."""
    return get(f"{running.url}/api/version").startswith(b'{"version"')
