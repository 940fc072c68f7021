"""Vectors of the embedded worker: real processes, real models, real sockets."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.embedded_worker import WorkerProcess, embedded_worker
from tests.support.models import embedding_model

TEXTS = ("horse", "a ranch", "the green hills of the north", "a horse on the green hills and a river")


def vector_of(worker: WorkerProcess, text: str) -> Sequence[float]:
    """Return what /api/embed answers."""
    vector: Sequence[float] = worker.post("/api/embed", model="embed", input=text).json["embeddings"][0]
    return vector


def test_texts_that_are_embedded_at_once_get_the_vectors_that_they_get_alone(tmp_path: Path) -> None:
    """Also texts of unequal length: each is read in one piece, whoever else is in the batch."""
    embedding_model(tmp_path)
    with embedded_worker(tmp_path) as worker, ThreadPoolExecutor(16) as clients:
        alone = {text: vector_of(worker, text) for text in TEXTS}
        asked = TEXTS * 40
        together = clients.map(lambda text: vector_of(worker, text), asked)
        for text, vector in zip(asked, together, strict=True):
            assert vector == pytest.approx(alone[text], abs=1e-5), text
