"""A real embedded worker process, and what a test wants to know of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

_DEADLINE_S = 20.0
_PAUSE_S = 0.01


def wait_until(condition: Callable[[], object], what: str, *, within_s: float = _DEADLINE_S) -> float:
    """Wait for a condition; return the seconds it took, or fail naming `what`."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"{what}: not within {within_s} s"
        time.sleep(_PAUSE_S)
    return time.monotonic() - began


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def alive(pid: int) -> bool:
    """Return whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass(slots=True)
class Answer:
    """A whole answer."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)

    @property
    def frames(self) -> list[Any]:
        """The body as NDJSON."""
        return [json.loads(line) for line in self.text.splitlines()]


@dataclass(slots=True)
class WorkerProcess:
    """A running worker."""

    process: subprocess.Popen[str]
    port: int
    log: Path
    _open: list[HTTPConnection] = field(default_factory=list)

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        """Send a request and read its whole answer."""
        connection, response = self.open(method, path, body)
        text = response.read().decode()
        connection.close()
        return Answer(response.status, text)

    def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        return self.request("GET", path).json

    def post(self, path: str, **body: Any) -> Answer:
        """POST a JSON body."""
        return self.request("POST", path, body)

    def open(self, method: str, path: str, body: Any = None) -> tuple[HTTPConnection, HTTPResponse]:
        """Send a request and return once its head has come; close the connection to leave."""
        connection = self.send(method, path, body)
        return connection, connection.getresponse()

    def send(self, method: str, path: str, body: Any = None) -> HTTPConnection:
        """Send a request and wait for nothing."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_DEADLINE_S)
        self._open.append(connection)
        connection.request(method, path, body=None if body is None else json.dumps(body))
        return connection

    def lines(self, path: str, **body: Any) -> tuple[HTTPConnection, Iterator[str]]:
        """Start a stream and return its lines as they come."""
        connection, response = self.open("POST", path, body)
        assert response.status == 200, response.read()
        return connection, (line.decode() for line in response)

    def busy(self) -> int:
        """Return how many slots compute, counted at llama.cpp."""
        count: int = self.get("/corral/slots")["busy"]
        return count

    def pending(self) -> int:
        """Return how many requests wait."""
        count: int = self.get("/corral/slots")["pending"]
        return count

    def resident(self) -> dict[str, Any]:
        """Return the rows of ps by name."""
        return {row["name"]: row for row in self.get("/api/ps")["models"]}

    def runners(self) -> list[int]:
        """Return the process ids of its runners."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def stop(self) -> None:
        """End it and all it has."""
        for connection in self._open:
            connection.close()
        for pid in self.runners() if self.process.poll() is None else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


@contextmanager
def embedded_worker(models: Path, **env: object) -> Iterator[WorkerProcess]:
    """Run a worker over a directory of models; `env` adds to its environment, None takes a variable out."""
    port = free_port()
    log = models / "worker.log"
    variables = {
        **os.environ,
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_NUM_PARALLEL": "2",
        "OLLAMA_CONTEXT_LENGTH": "512",
        "CORRAL_GGUF_DIR": str(models),
        "XDG_CACHE_HOME": str(models / "cache"),
        **{name: str(value) for name, value in env.items()},
    }
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.engines.embedded"], env=variables, stderr=stderr, text=True
        )
    worker = WorkerProcess(process, port, log)
    try:
        wait_until(lambda: _answers(worker), f"the worker answers; its log: {log}")
        yield worker
    finally:
        worker.stop()


def _answers(worker: WorkerProcess) -> bool:
    assert worker.process.poll() is None, worker.log.read_text()
    with suppress(OSError):
        return worker.request("GET", "/api/version").status == 200
    return False
