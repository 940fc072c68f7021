"""On a machine with an Ollama, `corral up` needs no file: it finds the binary and the models."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import ollama

from tests.support.corral import COMMAND, Corral
from tests.support.models import counting_model
from tests.support.ollama_store import NEEDS_OLLAMA, environment, import_models
from tests.support.supervisor import PATIENCE_S, children_of, eventually, exists

pytestmark = NEEDS_OLLAMA


def test_up_without_a_file_serves_the_models_of_the_installed_ollama(tmp_path: Path) -> None:
    """Two workers on cores of their own over the one store, of which one may prune; nobody is left behind."""
    import_models(tmp_path / ".ollama" / "models", counting_model(tmp_path))
    environ = environment(tmp_path) | {"XDG_RUNTIME_DIR": str(tmp_path)}
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [COMMAND, "up", "--next-free-port"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environ,
            cwd=tmp_path,
        ) as process,
    ):
        assert process.stdout is not None
        corral = Corral(process, tmp_path, process.stdout.readline().split()[3], "ollama")
        with ollama.Client(corral.url) as client:
            answer = client.generate("count", "1 2", raw=True, options={"num_predict": 2, "temperature": 0})
        assert answer.response == " 3 4"
        argv = [COMMAND, "ps", "--json", "--runtime-dir", str(tmp_path / "corral")]
        workers = json.loads(subprocess.check_output(argv, text=True))["workers"]
        assert [worker["engine"] for worker in workers] == ["ollama", "ollama"]
        assert sorted(_variable(worker["pid"], "OLLAMA_NOPRUNE") for worker in workers) == ["0", "1"]
        runners = [pid for worker in workers for pid in children_of(worker["pid"])]
        assert [os.sched_getaffinity(pid) for pid in runners] == [
            os.sched_getaffinity(worker["pid"]) for worker in workers if children_of(worker["pid"])
        ]
        family = [*runners, *(worker["pid"] for worker in workers)]
        process.kill()
        process.wait(PATIENCE_S)
        eventually(lambda: not any(map(exists, family)), "everybody's end", within_s=2)


def _variable(pid: int, name: str) -> str:
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return next(entry.partition("=")[2] for entry in entries if entry.startswith(f"{name}="))
