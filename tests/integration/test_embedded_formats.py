"""Answers are held to JSON schemas, also to those with words that no grammar knows.

The counting model says numbers and blanks as long as nothing holds it to another form.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.embedded_worker import WorkerProcess, embedded_worker
from tests.support.models import counting_model

OBJECT = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker with the counting model."""
    models = tmp_path_factory.mktemp("models")
    counting_model(models)
    with embedded_worker(models) as process:
        yield process


def said(worker: WorkerProcess, schema: dict[str, Any]) -> str:
    """Return how the answer to a prompt begins."""
    options = {"temperature": 0, "num_predict": 12}
    body = {"model": "count", "prompt": "1 2", "raw": True, "stream": False, "options": options}
    answer = worker.post("/api/generate", **body, format=schema)
    assert answer.status == 200, answer.text
    return str(answer.json["response"])


@pytest.mark.parametrize(
    ("schema", "beginning"),
    [
        (OBJECT, '{"n":'),
        (OBJECT | {"dependentRequired": {"n": ["m"]}, "if": {}, "then": {}}, '{"n":'),
        (OBJECT | {"not": {"required": ["q"]}, "unevaluatedProperties": False}, '{"n":'),
        (OBJECT | {"$schema": "mine"}, '{"n":'),
        ({"properties": OBJECT["properties"], "required": ["n"]}, '{"n":'),
        ({"oneOf": [OBJECT, {"type": "object", "properties": {}, "required": ["n"]}]}, '{"n":'),
        ({"$ref": "#/$defs/A", "$defs": {"A": OBJECT}}, '{"n":'),
        ({}, "{"),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "["),
        ({"type": "string", "format": "binary"}, '"'),
        ({"format": "uuid"}, '"'),
        ({"pattern": "^[a-c]{3}$"}, '"'),
    ],
)
def test_an_answer_is_held_to_its_schema(
    worker: WorkerProcess, schema: dict[str, Any], beginning: str
) -> None:
    """What Pydantic and others write beside the types must not set the model free."""
    assert said(worker, schema).startswith(beginning)


def test_what_can_be_no_schema_is_told(worker: WorkerProcess) -> None:
    """As Ollama does, with a 500; on OpenAI's route in its form."""
    schema = {"type": "string", "pattern": "a("}
    native = worker.post("/api/generate", model="count", prompt="x", format=schema, stream=False)
    assert (native.status, native.json["error"]) == (
        500,
        'invalid JSON schema in format: pattern "a(" is none that an answer can be held to',
    )
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    messages = [{"role": "user", "content": "x"}]
    openai = worker.post("/v1/chat/completions", model="count", messages=messages, response_format=wanted)
    assert (openai.status, openai.json["error"]["message"]) == (500, native.json["error"])
