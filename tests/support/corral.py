"""The whole of Corral as a person runs it: `corral up` in a process of its own, over models of the test's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.ollama_store import environment as ollama_environment
from tests.support.ollama_store import import_models
from tests.support.supervisor import PATIENCE_S, children_of, eventually, get

COMMAND: Final = str(Path(sys.executable).with_name("corral"))
CONFIG: Final[dict[str, Any]] = {
    "listen": "127.0.0.1:0",
    "runtime_dir": "run",
    "store": "store",
    "gguf_dir": "models",
    "state_dir": "state",
    "worker_defaults": {"engine": "embedded", "context_length": 2048},
}


@dataclass(slots=True)
class Corral:
    """A running `corral up`, looked at from outside."""

    process: subprocess.Popen[str]
    directory: Path
    url: str
    engine: str

    def ps(self) -> dict[str, Any]:
        """Return what `corral ps --json` prints."""
        argv = [COMMAND, "ps", "--json", "--runtime-dir", str(self.directory / "run")]
        answer: dict[str, Any] = json.loads(subprocess.check_output(argv, text=True, timeout=PATIENCE_S))
        return answer

    def worker(self, name: str) -> dict[str, Any]:
        """Return one worker of it."""
        return next(worker for worker in self.ps()["workers"] if worker["worker"] == name)

    def busy(self, name: str) -> int:
        """Return how many answers the worker computes, as far as its engine tells.

        An embedded worker says what llama.cpp counts. Ollama tells nobody: there it is what the gateway
        has given it, or 1 while a runner still computes what nobody waits for.
        """
        worker = self.worker(name)
        if self.engine == "embedded":
            slots = json.loads(get(f"{worker['base_url']}/corral/slots"))
            assert slots["pending"] == 0, "requests wait inside the worker"
            return int(slots["busy"])
        given = sum(model["busy"] for model in worker["resident"])
        return given or int(_computes(children_of(worker["pid"])))

    def wait_until_replaced(self, name: str, *, after: int) -> dict[str, Any]:
        """Return the worker once it is ready in an incarnation later than `after`."""

        def successor() -> dict[str, Any] | None:
            worker = self.worker(name)
            return worker if worker["state"] == "ready" and worker["incarnation"] > after else None

        return eventually(successor, f"a successor of {name}#{after}") or {}

    def log(self) -> list[dict[str, Any]]:
        """Return the structured log so far."""
        lines = (self.directory / "log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def _computes(pids: list[int]) -> bool:
    """Return whether the processes take more than a tenth of a core's time in a fifth of a second."""
    before = sum(map(_cpu_ticks, pids))
    time.sleep(0.2)  # the time over which it is measured
    return sum(map(_cpu_ticks, pids)) - before > 0.02 * os.sysconf("SC_CLK_TCK")


def _cpu_ticks(pid: int) -> int:
    try:
        columns = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(columns[11]) + int(columns[12])


def plain_environment() -> dict[str, str]:
    """Return the environment without what an operator of Ollama may have set in it."""
    return {key: value for key, value in os.environ.items() if not key.startswith("OLLAMA_")}


def write_config(directory: Path, **changes: Any) -> Path:
    """Write the configuration above with these changes."""
    file = directory / "corral.yaml"
    file.write_text(yaml.safe_dump({**CONFIG, **changes}))
    return file


@contextmanager
def corral(
    directory: Path,
    environ: dict[str, str] | None = None,
    *,
    engine: str = "embedded",
    entering: tuple[str, ...] = (),
    **changes: Any,
) -> Iterator[Corral]:
    """Run it with the configuration above and these changes; it is gone afterwards.

    With the engine `ollama` the GGUF files of the directory are in the workers' store, which is the test's.
    `entering` is a command that becomes the one after it.
    """
    (directory / "models").mkdir(exist_ok=True)
    if engine == "ollama":
        import_models(directory / "store", *sorted((directory / "models").glob("*.gguf")))
        environ = environ or ollama_environment(directory)
    changes.setdefault("worker_defaults", {**CONFIG["worker_defaults"], "engine": engine})
    argv = [*entering, COMMAND, "up", "--config", str(write_config(directory, **changes))]
    with (
        (directory / "log").open("w") as log,
        subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=log, text=True, env=environ or plain_environment()
        ) as process,
    ):
        try:
            yield Corral(process, directory, _greeting(process, directory), engine)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            finally:
                process.kill()  # what does not end must not be waited for


def _greeting(process: subprocess.Popen[str], directory: Path) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Corral is ready: "), line + (directory / "log").read_text()
    return line.split()[3]
