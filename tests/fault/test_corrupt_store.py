"""Files of a store that are broken: the one model fails with a clear text, and all others go on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.support.aftermath import all_comes_back
from tests.support.corral import Corral, corral
from tests.support.models import corrupt_model, counting_model
from tests.support.ollama_store import ENGINES

CUT, LOST, CHANGED, SOUND = "cut", "lost", "changed", "sound"
TOLD: Final = ("not within the file bounds", "exceeds file size")
"""What the engines say of a file that ends half-way."""


@pytest.fixture(scope="module", params=ENGINES)
def running(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Corral]:
    """A sound model, one that ends half-way, one that loses its weights once Corral runs, one its header."""
    directory: Path = tmp_path_factory.mktemp("corrupt")
    counting_model(directory / "models", name=SOUND)
    corrupt_model(directory / "models", name=CUT)
    for name, words in ((LOST, 300), (CHANGED, 301)):
        counting_model(directory / "models", name=name, words=words)
    with corral(directory, engine=request.param, workers=[{"name": "w0"}]) as running:
        yield running


def weights(running: Corral, name: str) -> Path:
    """Return the file of a model's weights."""
    if running.engine == "embedded":
        return running.directory / "models" / f"{name}.gguf"
    manifests = running.directory / "store" / "manifests" / "registry.ollama.ai" / "library" / name / "latest"
    layers = json.loads(manifests.read_text())["layers"]
    digest: str = next(layer["digest"] for layer in layers if layer["mediaType"].endswith(".model"))
    return running.directory / "store" / "blobs" / digest.replace(":", "-")


def ask(running: Corral, model: str) -> tuple[int, Any]:
    """Ask for one word."""
    connection = HTTPConnection(urlsplit(running.url).netloc, timeout=30)
    try:
        order = {"model": model, "prompt": "1 2", "stream": False, "options": {"num_predict": 1}}
        connection.request("POST", "/api/generate", json.dumps(order))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def fails_alone(running: Corral, model: str) -> str:
    """Ask twice for a broken model and in between for the sound one; return what was said of the broken."""
    with all_comes_back(running):
        status, said = ask(running, model)
        assert status in (404, 500), said
        assert ask(running, SOUND)[0] == 200
        assert ask(running, model)[0] in (404, 500)
    assert running.worker("w0")["incarnation"] == 1, "the worker lives"
    return str(said["error"])


def test_a_model_file_that_ends_half_way_fails_alone(running: Corral) -> None:
    """The text is the engine's reason."""
    said = fails_alone(running, CUT)
    assert any(words in said for words in TOLD), said


def test_a_model_whose_weights_vanish_fails_alone(running: Corral) -> None:
    """Its manifest points nowhere, or its file is gone."""
    weights(running, LOST).unlink()
    assert fails_alone(running, LOST)


def test_a_model_whose_bytes_changed_fails_alone(running: Corral) -> None:
    """The digest is another and so is the header: an engine says so rather than answer nonsense."""
    file = weights(running, CHANGED)
    with file.open("r+b") as stream:
        stream.write(os.urandom(4096))
    assert fails_alone(running, CHANGED)
