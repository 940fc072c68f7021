"""Records what a real Ollama answers to `cases.py`, for the tests that hold our engines against it.

    CORRAL_TEST_OLLAMA=/path/to/ollama python -m tests.contract.record

Starts the binary on a free port with a model store of its own in a temporary directory, imports the
tests' models, sends every case and writes `recordings/GROUP.json`. Nothing else of the machine is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from tests.contract.cases import Case
from tests.contract.exchange import exchange
from tests.contract.groups import GROUPS
from tests.contract.shape import shortened
from tests.support.embedded_worker import free_port, wait_until
from tests.support.models import counting_model, embedding_model

RECORDINGS: Final = Path(__file__).parent / "recordings"
VARIABLE: Final = "CORRAL_TEST_OLLAMA"
LIMITS: Final = {"OLLAMA_CONTEXT_LENGTH": "512", "OLLAMA_NUM_PARALLEL": "2"}


def main() -> int:
    """Record all groups; return an exit code."""
    binary = os.environ.get(VARIABLE)
    if not binary:
        sys.stderr.write(f"set {VARIABLE} to the ollama binary to record\n")
        return 2
    with tempfile.TemporaryDirectory() as home:
        _record(Path(binary), Path(home))
    return 0


def _record(binary: Path, home: Path) -> None:
    port = free_port()
    env = {"HOME": str(home), "OLLAMA_MODELS": str(home / "store"), "OLLAMA_HOST": f"127.0.0.1:{port}"}
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [str(binary), "serve"], env={**env, **LIMITS, "OLLAMA_NO_CLOUD": "1"}, stderr=log, stdout=log
        )
    try:
        wait_until(lambda: _answers(port), f"{binary} answers")
        _import(port, counting_model(home))
        _import(port, embedding_model(home))
        for group, cases in GROUPS.items():
            _write(group, {case.name: shortened(exchange("127.0.0.1", port, case)) for case in cases})
    finally:
        server.terminate()
        server.wait()


def _write(group: str, answers: dict[str, Any]) -> None:
    RECORDINGS.mkdir(exist_ok=True)
    text = json.dumps(answers, indent=1, ensure_ascii=False, sort_keys=True)
    (RECORDINGS / f"{group}.json").write_text(text + "\n")


def _answers(port: int) -> bool:
    with suppress(OSError):
        case = Case(name="", path="/api/version", method="GET")
        return bool(exchange("127.0.0.1", port, case)["status"] == 200)
    return False


def _import(port: int, model: Path) -> None:
    data = model.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("POST", f"/api/blobs/{digest}", body=data)
    connection.getresponse().read()
    connection.close()
    body = {"model": model.stem, "files": {model.name: digest}, "stream": False}
    created = exchange("127.0.0.1", port, Case(name="create", path="/api/create", body=body))
    if created["status"] != 200:
        raise SystemExit(f"cannot import {model}: {created}")


if __name__ == "__main__":
    sys.exit(main())
