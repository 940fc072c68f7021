"""A real Ollama, where one is installed: started on a free port with a home and a store of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.support.embedded_worker import free_port, wait_until

VARIABLE = "CORRAL_TEST_OLLAMA"
MISSING = f"{VARIABLE} names no Ollama to compare with"
_TIMEOUT_S = 60.0


def binary() -> Path | None:
    """Return the Ollama that the environment names, or None."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


@dataclass(frozen=True, slots=True)
class RealOllama:
    """A running server."""

    port: int
    store: Path

    def post(self, path: str, **body: Any) -> tuple[int, Any]:
        """POST a JSON body; return status and JSON of the answer."""
        return self._send("POST", path, json.dumps({"stream": False} | body).encode())

    def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        return self._send("GET", path, None)[1]

    def create(self, name: str, weights: Path, **layers: Any) -> None:
        """Make a model of a GGUF file and the layers that /api/create takes (template, parameters …)."""
        data = weights.read_bytes()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self._send("POST", f"/api/blobs/{digest}", data)
        status, answer = self.post("/api/create", model=name, files={weights.name: digest}, **layers)
        assert status == 200, f"cannot create {name}: {answer}"

    def derive(self, name: str, source: str, **layers: Any) -> tuple[int, Any]:
        """Make a model of another one with further layers; return what the server said."""
        return self.post("/api/create", model=name, **{"from": source}, **layers)

    def _send(self, method: str, path: str, data: bytes | None) -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, body=data)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        return response.status, json.loads(text) if text.startswith(("{", "[")) else text


@contextmanager
def real_ollama(binary: Path, home: Path, **env: str) -> Iterator[RealOllama]:
    """Run the server; its models lie in `home`/store."""
    server = RealOllama(free_port(), home / "store")
    variables = {
        "HOME": str(home),
        "OLLAMA_MODELS": str(server.store),
        "OLLAMA_HOST": f"127.0.0.1:{server.port}",
        "OLLAMA_NO_CLOUD": "1",
        **env,
    }
    with (home / "ollama.log").open("w") as log:
        process = subprocess.Popen([str(binary), "serve"], env=variables, stderr=log, stdout=log)
    try:
        wait_until(lambda: _answers(server), f"{binary} answers")
        yield server
    finally:
        process.terminate()
        process.wait()


def _answers(server: RealOllama) -> bool:
    with suppress(OSError):
        return "version" in server.get("/api/version")
    return False
