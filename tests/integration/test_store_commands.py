"""`corral pull`, `create`, `cp` and `rm` over two workers that share a store, with each engine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.support.corral import COMMAND, Corral, corral
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.registry import Registry, registry
from tests.support.supervisor import PATIENCE_S, eventually, get


@pytest.fixture(scope="module", params=ENGINES)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corral]:
    """A Corral of two workers whose store is empty."""
    with corral(tmp_path_factory.mktemp("store"), engine=request.param, cpu_workers=2) as running:
        yield running


@pytest.fixture
def shop() -> Iterator[Registry]:
    """A registry to pull from."""
    with registry() as shop:
        yield shop


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A GGUF file."""
    return counting_model(tmp_path)


def command(running: Corral, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    argv = [COMMAND, words[0], *map(str, words[1:]), "--runtime-dir", str(running.directory / "run")]
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def names(url: str) -> set[str]:
    """Return the models that a server lists."""
    return {row["name"] for row in json.loads(get(f"{url}/api/tags"))["models"]}


def names_at_workers(running: Corral) -> list[set[str]]:
    """Return what each worker lists itself."""
    return [names(worker["base_url"]) for worker in running.ps()["workers"]]


def loaded(running: Corral) -> list[str]:
    """Return the digests of what the workers themselves say to hold."""
    rows = (json.loads(get(f"{worker['base_url']}/api/ps"))["models"] for worker in running.ps()["workers"])
    return [row["digest"] for held in rows for row in held]


def count(running: Corral, model: str) -> str:
    """Let a model go on from 1 2."""
    options = {"num_predict": 3, "temperature": 0}
    body: dict[str, Any] = {
        "model": model,
        "prompt": "1 2",
        "raw": True,
        "stream": False,
        "options": options,
    }
    request = Request(f"{running.url}/api/generate", json.dumps(body).encode())
    with urlopen(request, timeout=PATIENCE_S) as response:
        return str(json.load(response)["response"]).strip()


def test_a_file_becomes_a_model_that_can_be_copied_and_deleted(running: Corral, weights: Path) -> None:
    """Each change is seen by clients and workers when the command ends."""
    made = command(running, "create", "mine", "--from", weights)
    assert (made.returncode, made.stdout) == (0, "created mine\n"), made.stderr
    assert names(running.url) == {"mine:latest"}
    assert names_at_workers(running) == [{"mine:latest"}] * 2
    assert count(running, "mine") == "3 4 5"
    assert command(running, "cp", "mine", "other").stdout == "copied mine to other\n"
    assert names(running.url) == {"mine:latest", "other:latest"}
    gone = command(running, "rm", "other", "nothing", "mine", "--json")
    assert gone.returncode == 1
    assert json.loads(gone.stdout) == {
        "deleted": ["other", "mine"],
        "failed": {"nothing": "model 'nothing' not found"},
    }
    assert names_at_workers(running) == [set(), set()]
    assert loaded(running) == []


def test_a_modelfile_says_what_a_model_is_made_of(running: Corral, weights: Path) -> None:
    """Its paths start where it lies."""
    modelfile = weights.parent / "Modelfile"
    modelfile.write_text("FROM ./count.gguf\nSYSTEM be brief\nPARAMETER temperature 0\n")
    assert command(running, "create", "brief", "-f", modelfile).returncode == 0
    request = Request(f"{running.url}/api/show", b'{"model":"brief"}')
    with urlopen(request, timeout=PATIENCE_S) as response:
        assert json.load(response)["system"] == "be brief"
    assert command(running, "rm", "brief").returncode == 0


def test_mistakes_name_the_model_and_the_file(running: Corral, tmp_path: Path) -> None:
    """And what a script tells them by."""
    missing = command(running, "create", "mine", "--from", "./nowhere.gguf")
    assert missing.returncode == 2
    assert "corral create mine: ./nowhere.gguf: no such file" in missing.stderr
    (tmp_path / "Modelfile").write_text("FROM x\nBANANA")
    wrong = command(running, "create", "mine", "-f", tmp_path / "Modelfile")
    assert wrong.returncode == 2
    assert "Modelfile: line 2: unknown instruction BANANA" in wrong.stderr
    unknown = command(running, "cp", "nothing", "x")
    assert (unknown.returncode, unknown.stderr) == (1, 'corral cp nothing: model "nothing" not found\n')


def test_a_pulled_model_serves_and_its_next_version_takes_its_place(
    running: Corral, shop: Registry, weights: Path
) -> None:
    """The weights of the old one are in no memory and in no store afterwards."""
    first = shop.add("count", weights)
    pulled = command(running, "pull", first.name, "--insecure", "--json")
    lines = [json.loads(line) for line in pulled.stdout.splitlines()]
    assert pulled.returncode == 0, pulled.stderr
    assert [line for line in lines if line == {"status": "success"}] == [lines[-1]]
    assert shop.count("GET", "/manifests/") == 1
    assert count(running, first.name) == "3 4 5"
    second = shop.add("count", weights.read_bytes() + bytes(32))
    assert command(running, "pull", second.name, "--insecure").stdout == f"pulled {second.name}\n"
    assert count(running, second.name) == "3 4 5"
    blobs = running.directory / "store" / "blobs"
    eventually(lambda: first.digest not in loaded(running), "the old one is out of memory")
    eventually(lambda: not (blobs / first.weights.replace(":", "-")).exists(), "and out of the store")
    assert (blobs / second.weights.replace(":", "-")).exists()
    eventually(lambda: names_at_workers(running) == [{second.name}] * 2, "no second name is left")
    assert command(running, "rm", second.name).returncode == 0


def test_what_the_registry_does_not_have_is_an_error_that_names_it(running: Corral, shop: Registry) -> None:
    """In the worker's words."""
    wanted = f"{shop.address}/library/nothing"
    failed = command(running, "pull", wanted, "--insecure")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == f"corral pull {wanted}: pull model manifest: file does not exist\n"
