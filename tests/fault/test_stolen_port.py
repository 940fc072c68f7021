"""Somebody takes a worker's port between its choice and the worker's bind."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from supervisor.contract.fleet import WorkerState
from tests.support import ollama_store, port_thief
from tests.support.aftermath import assert_all_is_back
from tests.support.corral import corral
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.supervisor import supervisor

POLICY: Final = {"first_delay_s": 0.05, "jitter": 0.0}
THEFT: Final = """
import os, subprocess, sys

def steal():
    try:
        os.mkdir({mark!r})
    except FileExistsError:
        return
    argv = [sys.executable, "-I", "-S", {thief!r}, os.environ["OLLAMA_HOST"].rpartition(":")[2]]
    thief = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    thief.stdout.readline()
    os.set_inheritable(thief.stdin.fileno(), True)
    return thief
"""
"""Has a thief take the port of the first worker that runs this; it lives as long as that one."""
IN_PYTHON: Final = """
if sys.orig_argv[1:] == ["-m", "supervisor.engines.embedded"]:
    thief = steal()
"""
BEFORE_OLLAMA: Final = """
thief = steal() if sys.argv[1:] == ["serve"] else None
os.execv({binary!r}, [{binary!r}, *sys.argv[1:]])
"""


def test_the_worker_gets_another_one(tmp_path: Path) -> None:
    """It ends because it cannot listen, and its successor has a port of its own."""
    workers: list[dict[str, Any]] = [{"name": "a", "behaviour": "stolen"}, {"name": "b"}]
    with supervisor(tmp_path, *workers, policy=POLICY) as running:
        running.wait_until_ready()
        status = running.wait_for("a", state=WorkerState.READY)
        assert status.incarnation == 2
        assert running.ask("a")["pid"] == status.pid
        assert running.wait_for("b", state=WorkerState.READY).incarnation == 1


def test_a_thief_that_answers_as_a_worker_would_is_not_taken_for_one_for_long(tmp_path: Path) -> None:
    """The worker that could not listen ends, and with it what was believed of its port."""
    worker = {"name": "a", "behaviour": "stolen answers"}
    with supervisor(tmp_path, worker, policy=POLICY) as running:
        status = running.wait_for("a", state=WorkerState.READY, incarnation=2)
        assert running.ask("a")["pid"] == status.pid


def thieving(directory: Path, engine: str) -> dict[str, str]:
    """Have the first worker's port stolen; return what a worker needs in its environment for that."""
    (directory / "bin").mkdir()
    theft = THEFT.format(mark=str(directory / "stolen"), thief=port_thief.__file__)
    if engine == "embedded":
        (directory / "bin" / "sitecustomize.py").write_text(theft + IN_PYTHON)
        paths = (str(directory / "bin"), os.environ.get("PYTHONPATH", ""))
        return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = directory / "bin" / "ollama"
    ending = BEFORE_OLLAMA.format(binary=ollama_store.BINARY)
    command.write_text(f"#!{sys.executable}\n{theft}{ending}")
    command.chmod(0o755)
    return {}


@pytest.mark.parametrize("engine", ENGINES)
def test_clients_wait_for_the_successor(tmp_path: Path, engine: str) -> None:
    """A whole Corral: it is ready with the second process, and that one answers."""
    counting_model(tmp_path / "models")
    worker = {"name": "w0", "env": thieving(tmp_path, engine)}
    with corral(tmp_path, engine=engine, workers=[worker]) as running:
        assert (tmp_path / "stolen").exists()
        order = {"prompt": "1 2", "options": {"num_predict": 2, "temperature": 0}}
        assert ask(running.url, order).split() == ["3", "4"]
        assert running.worker("w0")["incarnation"] == 2
        assert_all_is_back(running)


def ask(url: str, order: dict[str, Any]) -> str:
    """Return the answer of the counting model."""
    port = int(url.rpartition(":")[2])
    status, answer = ollama_store.ask(
        port, "/api/generate", {"model": "count", "raw": True, "stream": False, **order}
    )
    assert status == 200, answer
    return str(json.loads(answer)["response"])
