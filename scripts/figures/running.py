"""Starts `corral up` for a measurement and looks at it from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from scripts.recipes import counting
from scripts.recipes.llama_gguf import Shape

CORRAL: Final = str(Path(sys.executable).with_name("corral"))
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_SLOW_TO_LOAD: Final = Shape(width=2048, layers=4, heads=8, feed_forward=4096)
TWO_WORKERS: Final[list[dict[str, Any]]] = [{"name": "cpu0"}, {"name": "cpu1"}]


@dataclass(frozen=True, slots=True)
class Running:
    """A Corral under measurement."""

    url: str
    pid: int
    directory: Path
    ready_s: float
    """From the start of the command to the line that says it is ready."""

    def ps(self) -> dict[str, Any]:
        """Return what `corral ps --json` prints."""
        argv = [CORRAL, "ps", "--json", "--runtime-dir", str(self.directory / "run")]
        answer: dict[str, Any] = json.loads(subprocess.check_output(argv, text=True))
        return answer

    def busy_in_workers(self) -> list[int]:
        """Return the slots in use, per worker: as llama.cpp counts them, or given out where nobody tells."""
        workers = self.ps()["workers"]
        if workers[0]["engine"] == "ollama":
            return [sum(model["busy"] for model in worker["resident"]) for worker in workers]
        return [int(get_json(f"{worker['base_url']}/corral/slots")["busy"]) for worker in workers]

    def processes(self) -> dict[str, int]:
        """Return the pids of supervisor, gateway and keeper."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        named = {"gateway": b"-m\0gateway", "keeper": b"keeper.py"}
        found = {name: pid for name, mark in named.items() for pid, argv in commands.items() if mark in argv}
        return {"supervisor": self.pid, **found}


@contextmanager
def running(
    directory: Path, *, workers: list[dict[str, Any]], engine: str = "embedded", **defaults: float
) -> Iterator[Running]:
    """Run a Corral of CPU workers over the models of the directory; `defaults` are of the workers."""
    config = {
        "listen": "127.0.0.1:0",
        "runtime_dir": "run",
        "store": "store",
        "gguf_dir": "models",
        "state_dir": "state",
        "worker_defaults": {"engine": engine, "context_length": 2048, "num_parallel": 4, **defaults},
        "workers": workers,
    }
    file = directory / "corral.yaml"
    file.write_text(yaml.safe_dump(config))
    started = time.monotonic()
    with (
        (directory / "log").open("w") as log,
        subprocess.Popen(
            [CORRAL, "up", "-c", str(file)], stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise SystemExit((directory / "log").read_text())
            yield Running(line.split()[3], process.pid, directory, time.monotonic() - started)
        finally:
            process.terminate()


def write_models(directory: Path) -> None:
    """Write `count`, small, `heavy`, more than 5 ms of a core for a token, and `late`, slow to load."""
    directory.mkdir(parents=True, exist_ok=True)
    counting.counting(directory / "count.gguf", name="count")
    counting.heavy_counting(directory / "heavy.gguf")
    counting.counting(directory / "late.gguf", name="late", shape=_SLOW_TO_LOAD)


def get_json(url: str) -> dict[str, Any]:
    """GET a JSON object, without any proxy of the environment."""
    with _OPENER.open(url, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def pss_mb(pid: int) -> float:
    """Return a process's share of memory, shared pages divided among their users, in MB (10^6 bytes)."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kib = next(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
    return kib * 1024 / 1e6
