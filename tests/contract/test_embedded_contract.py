"""The embedded worker answers as the recorded Ollama does: status, form, counts and texts of errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from supervisor.contract.wire import SLOTS_FIELD, WEIGHTS_FIELD
from tests.contract.cases import Case
from tests.contract.exchange import exchange
from tests.contract.groups import GROUPS
from tests.contract.shape import shape
from tests.support.embedded_worker import WorkerProcess, embedded_worker
from tests.support.models import counting_model, embedding_model

RECORDINGS = Path(__file__).parent / "recordings"

OURS_DIFFERS = {
    "generate image on a text model": "Ollama puts [img-0] into the prompt, we leave the image out",
    "generate json format": "llama.cpp's JSON grammar lets the model write blanks",
    "messages stop sequence": "Anthropic tells which stop sequence ended an answer, Ollama does not",
    "messages nothing said": "Ollama's content is null, which Anthropic's clients cannot read",
    "show": "the template is the file's own, a Jinja one",
    "show by name": "the template is the file's own, a Jinja one",
}
"""Cases whose bodies are not compared, and why. Status and media type are."""

CASES = [(group, case) for group, cases in GROUPS.items() for case in cases]


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker with the models and limits of the recording."""
    models = tmp_path_factory.mktemp("models")
    counting_model(models)
    embedding_model(models)
    with embedded_worker(models, OLLAMA_CONTEXT_LENGTH=512, OLLAMA_NUM_PARALLEL=2) as process:
        yield process


@cache
def recorded(group: str) -> dict[str, Any]:
    """Return a group's answers by the names of its cases."""
    answers: dict[str, Any] = json.loads((RECORDINGS / f"{group}.json").read_text())
    return answers


@pytest.mark.parametrize(("group", "case"), CASES, ids=[case.name for _, case in CASES])
def test_the_answer_has_the_recorded_form(worker: WorkerProcess, group: str, case: Case) -> None:
    """Keys, types and the values that a case calls the same are those of the real server."""
    answer = exchange("127.0.0.1", worker.port, case)
    _take_out_our_fields(answer["body"])
    ours, theirs = shape(answer, case.same), shape(recorded(group)[case.name], case.same)
    if case.name in OURS_DIFFERS:
        ours["body"] = theirs["body"] = OURS_DIFFERS[case.name]
    assert ours == theirs


def _take_out_our_fields(body: Any) -> None:
    """Corral's workers say two things more in the rows of their lists."""
    rows = body.get("models") if isinstance(body, dict) else None
    for row in rows or ():
        for ours in (SLOTS_FIELD, WEIGHTS_FIELD):
            row.pop(ours, None)


def test_every_recording_is_of_a_case_and_every_case_is_recorded() -> None:
    """A case that was renamed or added needs a new recording."""
    for group, cases in GROUPS.items():
        assert set(recorded(group)) == {case.name for case in cases}
