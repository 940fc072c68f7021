"""A disk without room: it stops logging, learning and pulling, and never serving."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.support.aftermath import all_comes_back
from tests.support.corral import COMMAND, CONFIG, Corral, plain_environment, write_config
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES, environment, import_models
from tests.support.registry import registry
from tests.support.supervisor import PATIENCE_S, eventually

SIZE_BYTES: Final = 24 * 2**20


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Return the engine of the worker."""
    engine: str = request.param
    return engine


@pytest.fixture(scope="module")
def disk(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small disk of the test's own, one for each engine."""
    directory: Path = tmp_path_factory.mktemp(f"disk-{engine}")
    options = f"size={SIZE_BYTES}"
    argv = ["mount", "-t", "tmpfs", "-o", options, "none", str(directory)]
    made = subprocess.run(argv, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here (that takes root): {made.stderr.strip()}")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)  # noqa: S607 -- as root finds it


@pytest.fixture(scope="module")
def running(disk: Path, engine: str) -> Iterator[Corral]:
    """A Corral whose log, learned state and store lie on that disk; only its models do not change."""
    model, environ = counting_model(disk / "models"), plain_environment()
    if engine == "ollama":
        import_models(disk / "store", model)
        environ = environment(disk)
    defaults = {**CONFIG["worker_defaults"], "engine": engine}
    file = write_config(disk, worker_defaults=defaults, workers=[{"name": "w0"}])
    argv = [COMMAND, "up", "--config", str(file)]
    with (
        (disk / "log").open("w") as log,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True, env=environ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("Corral is ready: "), (disk / "log").read_text()
            yield Corral(process, disk, line.split()[3], engine)
        finally:
            process.terminate()
            try:
                assert process.wait(PATIENCE_S) == 0
            finally:
                process.kill()  # what does not end must not be waited for


@pytest.fixture
def filled(running: Corral) -> Iterator[Corral]:
    """The same, with no byte left on its disk."""
    filler = running.directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 4096, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    assert os.statvfs(running.directory).f_bavail == 0
    yield running
    filler.unlink(missing_ok=True)


def ask(running: Corral, path: str, **order: Any) -> tuple[int, bytes]:
    """Ask, and return status and answer."""
    connection = HTTPConnection(urlsplit(running.url).netloc, timeout=30)
    try:
        connection.request("POST", path, json.dumps({"model": "count", **order}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def serves(running: Corral) -> bool:
    """Whether a request is answered to its end."""
    status, text = ask(running, "/api/generate", prompt="1 2", stream=False, options={"num_predict": 1})
    return status == 200 and b'"done":true' in text


def test_serving_goes_on_without_log_and_learned_state(filled: Corral) -> None:
    """Also a worker, and a gateway, that start when there is no room at all."""
    with all_comes_back(filled):
        assert serves(filled)
        size = (filled.directory / "log").stat().st_size
        worker = filled.worker("w0")
        os.kill(worker["pid"], 9)
        filled.wait_until_replaced("w0", after=worker["incarnation"])
        assert all(serves(filled) for _ in range(5))
        assert (filled.directory / "log").stat().st_size - size < 4096


def test_a_pull_onto_the_full_disk_says_so_and_leaves_nothing(filled: Corral) -> None:
    """It is refused before it begins; the model is not there, and others are served."""
    with registry() as shop, all_comes_back(filled):
        model = shop.add("big", bytes(range(256)) * 4096)
        status, text = ask(filled, "/api/pull", model=model.name, insecure=True, stream=False)
        assert status == 500
        assert b"space" in text or b"No space left" in text, text
        assert serves(filled)


def test_the_log_says_what_it_missed_once_there_is_room(running: Corral, filled: Corral) -> None:
    """Logging goes on by itself."""
    assert serves(filled)
    (filled.directory / "filler").unlink()
    told = "log lines could not be written"
    eventually(lambda: serves(running) and told in (running.directory / "log").read_text(), "it is told")


def test_a_digest_that_is_wrong_never_becomes_a_model(running: Corral) -> None:
    """What is written half and what is written wrong look the same to who reads it: neither may be a blob."""
    wrong = f"sha256:{hashlib.sha256(b'other').hexdigest()}"
    connection = HTTPConnection(urlsplit(running.url).netloc, timeout=30)
    connection.request("POST", f"/api/blobs/{wrong}", b"this is not it")
    assert connection.getresponse().status == 400
    connection.close()
    assert not (running.directory / "store" / "blobs" / wrong.replace(":", "-")).exists()
