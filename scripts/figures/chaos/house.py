"""A Corral to be hurt: started over models of its own, with a log whose reader can be made slow.

Looks at it as operators do (the socket of the gateway, /proc, the commands) and hurts nothing itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import aiohttp
import yaml

from scripts.figures.chaos.asks import EMBEDDING_MODEL, LATE_MODEL, QUICK_MODELS, SLOW_MODEL
from scripts.figures.chaos.plan import NEEDS_COMMAND, Kind
from scripts.figures.running import CORRAL, Running
from scripts.figures.stores import import_models
from scripts.recipes import counting, embedding
from scripts.recipes.llama_gguf import Shape
from supervisor.contract.runtime_dir import GATEWAY_SOCKET

WORKERS: Final = ("cpu0", "cpu1")
DEADLINE_S: Final = 90.0
"""`request_timeout`: until then a request may wait for a worker that comes back."""
_TIMES: Final = {
    "request_timeout": DEADLINE_S,
    "connect_timeout": 2,
    "first_byte_timeout": 10,
    "idle_timeout": 20,
    "probe_interval": 5,
    "probe_timeout": 5,
}
"""So short that a run need not wait for minutes until a worker that hangs is found out."""
_SLOW: Final = Shape(width=512, layers=6, heads=8, feed_forward=2048)
_LATE: Final = Shape(width=256, layers=2, heads=4, feed_forward=256)
_LATE_WORDS: Final = 45_000
_STARTS_WITHIN_S: Final = 60.0
_ENDS_WITHIN_S: Final = 40.0
_CHUNK_BYTES: Final = 65536


def config(engine: str) -> dict[str, Any]:
    """Return the file's contents."""
    return {
        "listen": "127.0.0.1:0",
        "runtime_dir": "run",
        "store": "store",
        "gguf_dir": "models",
        "state_dir": "state",
        "worker_defaults": {
            "engine": engine,
            "context_length": 2048,
            "num_parallel": 4,
            "max_loaded_models": 2,
        },
        "workers": [{"name": name} for name in WORKERS],
        "gateway": _TIMES,
        "log": {"format": "json"},
    }


def write_models(directory: Path, engine: str) -> None:
    """Write the models, and put them into a store for Ollama."""
    models = directory / "models"
    models.mkdir()
    for name in QUICK_MODELS:
        counting.counting(models / f"{name}.gguf", name=name)
    counting.counting(models / f"{SLOW_MODEL}.gguf", name=SLOW_MODEL, shape=_SLOW)
    counting.counting(models / f"{LATE_MODEL}.gguf", name=LATE_MODEL, words=_LATE_WORDS, shape=_LATE)
    embedding.embedding(models / f"{EMBEDDING_MODEL}.gguf", name=EMBEDDING_MODEL)
    if engine == "ollama":
        import_models(directory / "store", sorted(models.glob("*.gguf")))


class LogReader:
    """Writes what comes from a pipe into a file; may be told to stop reading for a while."""

    def __init__(self, pipe: IO[bytes], file: Path) -> None:
        """Begin to read."""
        self._pipe, self._file = pipe, file
        self._may_read = threading.Event()
        self._may_read.set()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def pause(self) -> None:
        """Read no more."""
        self._may_read.clear()

    def resume(self) -> None:
        """Read on."""
        self._may_read.set()

    def finish(self) -> None:
        """Return when the last writer has closed its end."""
        self.resume()
        self._thread.join()

    def _run(self) -> None:
        with self._file.open("wb") as log:
            while self._may_read.wait() and (chunk := os.read(self._pipe.fileno(), _CHUNK_BYTES)):
                log.write(chunk)
                log.flush()


@dataclass(frozen=True, slots=True)
class House:
    """A running Corral with its log."""

    running: Running
    log: LogReader
    engine: str

    @property
    def url(self) -> str:
        """Where clients ask."""
        return self.running.url

    @property
    def directory(self) -> Path:
        """Of its configuration, models, sockets and log."""
        return self.running.directory

    @property
    def config_file(self) -> Path:
        """The file that it was started with."""
        return self.directory / "corral.yaml"

    def log_entries(self) -> list[dict[str, Any]]:
        """Return the structured log so far."""
        lines = (self.directory / "log").read_text(errors="replace").splitlines()
        return [entry for line in lines if line.startswith("{") and (entry := _entry(line))]

    async def fleet(self) -> dict[str, Any]:
        """Return what the gateway says of workers and queue.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: no gateway answers.
        """
        connector = aiohttp.UnixConnector(str(self.directory / "run" / GATEWAY_SOCKET))
        timeout = aiohttp.ClientTimeout(total=5)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get("http://corral/corral/fleet") as response,
        ):
            answer: dict[str, Any] = await response.json()
            return answer

    async def worker(self, name: str) -> dict[str, Any]:
        """Return a worker's row of it."""
        return next(row for row in (await self.fleet())["workers"] if row["worker"] == name)

    async def command(self, *argv: str) -> tuple[int, str]:
        """Run `corral …` on its runtime directory; return exit code and what was said."""
        process = await asyncio.create_subprocess_exec(
            CORRAL,
            *argv,
            "--runtime-dir",
            str(self.directory / "run"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode(errors="replace").strip()


def _entry(line: str) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:  # cut off by a kill
        return {}
    return entry


@contextmanager
def house(directory: Path, engine: str) -> Iterator[House]:
    """Run `corral up` over the models in the directory; it is gone afterwards, by kill -9 if need be."""
    file = directory / "corral.yaml"
    file.write_text(yaml.safe_dump(config(engine)))
    with subprocess.Popen(
        [CORRAL, "up", "-c", str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        log = LogReader(process.stderr, directory / "log")
        too_late = threading.Timer(_STARTS_WITHIN_S, process.terminate)
        too_late.start()
        try:
            line = process.stdout.readline().decode()
            too_late.cancel()
            if not line:
                log.finish()
                raise SystemExit((directory / "log").read_text())
            yield House(Running(line.split()[3], process.pid, directory, 0.0), log, engine)
        finally:
            log.resume()
            _end(process)
            log.finish()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def kinds_left_out() -> dict[Kind, str]:
    """Return the faults that this Corral has no command for, and which one that is."""
    says: dict[str, str] = {}
    for command, _ in NEEDS_COMMAND.values():
        if command not in says:
            helped = subprocess.run([CORRAL, command, "--help"], capture_output=True, text=True, check=False)
            says[command] = helped.stdout if helped.returncode == 0 else ""
    return {
        kind: f"`corral {command}` is not there" if not says[command] else f"`corral {command}` has no {word}"
        for kind, (command, word) in NEEDS_COMMAND.items()
        if word not in says[command]
    }
