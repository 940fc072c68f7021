"""A store of the test's own for real Ollama workers, and the binary that CORRAL_TEST_OLLAMA names.

Without the variable nothing here can be used: tests over `ENGINES` then skip their half with that reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import pytest

from supervisor.host.probe import free_port
from tests.support.supervisor import eventually

VARIABLE: Final = "CORRAL_TEST_OLLAMA"
BINARY: Final = os.environ.get(VARIABLE, "")
NEEDS_OLLAMA: Final = pytest.mark.skipif(not BINARY, reason=f"{VARIABLE} names no ollama binary")
ENGINES: Final = ["embedded", pytest.param("ollama", marks=NEEDS_OLLAMA)]
"""Both engines, for fixtures that run a Corral of each."""


def environment(directory: Path) -> dict[str, str]:
    """Return an environment in whose PATH the binary is `ollama`, and nothing of an operator's Ollama."""
    link = directory / "bin" / "ollama"
    link.parent.mkdir(exist_ok=True)
    if not link.exists():
        link.symlink_to(BINARY)
    plain = {key: value for key, value in os.environ.items() if not key.startswith("OLLAMA_")}
    return plain | {"PATH": f"{link.parent}{os.pathsep}{plain['PATH']}", "HOME": str(directory)}


def import_models(store: Path, *models: Path) -> None:
    """Put GGUF files into the store, each under its name without `.gguf`.

    A file of the same name that ends in `.template` is the model's template; otherwise Ollama looks for one
    of its own that resembles the template inside.
    A file that ends half-way is refused on import. It gets there as it would in life: it was whole, and
    then the disk lost something.
    """
    with server(store) as port:
        for model in models:
            data = model.read_bytes()
            refusal = _import(port, model, data)
            if refusal:
                assert "exceeds file size" in refusal, refusal
                whole = data + bytes(len(data))
                assert not _import(port, model, whole)
                os.truncate(store / "blobs" / f"sha256-{hashlib.sha256(whole).hexdigest()}", len(data))


@contextmanager
def server(store: Path, port: int = 0, /, **environ: str) -> Iterator[int]:
    """Run the binary alone over the store; the value is its port, a free one unless it was named."""
    port = port or free_port(())
    own = {"OLLAMA_MODELS": str(store), "OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_NO_CLOUD": "1"}
    store.mkdir(parents=True, exist_ok=True)
    with (
        (store.parent / "import.log").open("w") as log,
        subprocess.Popen(
            [BINARY, "serve"],
            env={"HOME": str(store.parent), "PATH": os.environ["PATH"], **own, **environ},
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            eventually(lambda: _answers(port), "an answer of Ollama")
            yield port
        finally:
            process.terminate()


def ask(port: int, path: str, body: Any = None) -> tuple[int, bytes]:
    """Ask the server on that port; a body that is no bytes is sent as JSON."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET" if body is None else "POST", path, body=data)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _answers(port: int) -> bool:
    try:
        return ask(port, "/api/version")[0] == 200
    except OSError:
        return False


def _import(port: int, model: Path, data: bytes) -> str:
    """Return the refusal, or nothing."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    ask(port, f"/api/blobs/{digest}", data)
    order: dict[str, Any] = {"model": model.stem, "files": {model.name: digest}, "stream": False}
    template = model.with_suffix(".template")
    if template.exists():
        order["template"] = template.read_text()
    status, said = ask(port, "/api/create", order)
    return "" if status == 200 else said.decode()
