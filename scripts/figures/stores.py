"""Puts the models of a measurement into a store of its own, by way of the `ollama` in PATH."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_STARTS_WITHIN_S: Final = 30.0


def import_models(store: Path, models: list[Path]) -> None:
    """Run `ollama serve` over the store for as long as it takes to import GGUF files under their names."""
    binary = shutil.which("ollama")
    if binary is None:
        raise SystemExit("--engine ollama needs the ollama binary in PATH")
    store.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environ = os.environ | {"OLLAMA_MODELS": str(store), "OLLAMA_HOST": address, "HOME": str(store.parent)}
    with subprocess.Popen(
        [binary, "serve"], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait_for(f"http://{address}/api/version")
            for model in models:
                _import(f"http://{address}", model)
        finally:
            process.terminate()


def _import(url: str, model: Path) -> None:
    data = model.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    _post(f"{url}/api/blobs/{digest}", data)
    order: dict[str, Any] = {"model": model.stem, "files": {model.name: digest}, "stream": False}
    _post(f"{url}/api/create", json.dumps(order).encode())


def _post(url: str, body: bytes) -> None:
    with _OPENER.open(urllib.request.Request(url, body), timeout=300) as response:  # noqa: S310 -- our own URL
        response.read()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline:
        try:
            _OPENER.open(url, timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"ollama does not answer within {_STARTS_WITHIN_S:g} s")
