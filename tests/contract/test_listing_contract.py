"""Corral's lists have the form of the recorded Ollama's, once Corral's own fields are taken out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from supervisor.contract.wire import WEIGHTS_FIELD
from tests.contract.cases import Case
from tests.contract.exchange import exchange
from tests.contract.groups import GROUPS
from tests.contract.shape import shape
from tests.support.corral import Corral, corral
from tests.support.models import counting_model, embedding_model

GROUP: Final = "listing"
RECORDED: Final = json.loads((Path(__file__).parent / "recordings" / f"{GROUP}.json").read_text())
OURS: Final = frozenset({WEIGHTS_FIELD, "workers", "alias_of"})
OTHER_BODY: Final = frozenset({"show", "show by name"})
"""The template is the file's own, a Jinja one: bodies differ by the engine and not by the gateway."""

METHOD_NOT_ALLOWED: Final = 405
"""Under /v1 Ollama says it in plain text; Corral in the error object that clients of that path can read."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corral]:
    """Two workers over the models of the recording."""
    directory = tmp_path_factory.mktemp("listed")
    counting_model(directory / "models")
    embedding_model(directory / "models")
    with corral(directory) as running:
        yield running


@pytest.mark.parametrize("case", GROUPS[GROUP], ids=[case.name for case in GROUPS[GROUP]])
def test_the_answer_has_the_recorded_form(running: Corral, case: Case) -> None:
    """Status, content type to the letter, keys, types and texts of errors."""
    answer = exchange("127.0.0.1", urlsplit(running.url).port or 0, case)
    theirs = RECORDED[case.name]
    if case.path.startswith("/v1/") and theirs["status"] == METHOD_NOT_ALLOWED:
        assert answer["status"] == METHOD_NOT_ALLOWED
        return
    assert answer["content_type"] == theirs["content_type"]
    _take_out_our_fields(answer["body"])
    ours, wanted = shape(answer, case.same), shape(theirs, case.same)
    if case.name in OTHER_BODY:
        ours["body"] = wanted["body"] = case.name
    assert ours == wanted


def _take_out_our_fields(body: Any) -> None:
    rows = body.get("models") if isinstance(body, dict) else None
    for row in rows or ():
        for field in OURS & row.keys():
            del row[field]
