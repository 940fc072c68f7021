"""What becomes of schemas that answers are held to: llama.cpp drops one whole for a word of it."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.engines.embedded.json_schemas import InvalidSchemaError, grammar_schema

OBJECT = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def inside(schema: object) -> dict[str, Any]:
    """Return a schema with another one inside."""
    return {"type": "object", "properties": {"n": schema}, "required": ["n"]}


@pytest.mark.parametrize(
    "schema",
    [
        {"a": 1},
        {"description": "x"},
        {"type": "zzz"},
        {"type": 3},
        {"type": []},
        {"type": None},
        {"type": ["string", "zzz"]},
        {"$ref": "#"},
        {"$ref": "#/x"},
        {"$ref": "#x"},
        {"$ref": "http://x/y"},
        {"$ref": 3},
        {"type": "string", "pattern": "a("},
        {"type": "string", "pattern": "(?=a)b"},
        {"type": "string", "pattern": r"(a)\1"},
        {"type": "string", "pattern": r"\bx"},
        {"type": "string", "pattern": 3},
        {"type": "object", "patternProperties": {"(?!a)": {}}},
        {"type": "object", "properties": 3},
        {"type": "object", "properties": {"a": 3}},
        {"type": "object", "properties": {"a": None}},
        {"type": "object", "required": 3},
        {"type": "object", "required": [3]},
        {"type": "object", "required": ["a"], "additionalProperties": False},
        {"type": "object", "additionalProperties": 3},
        {"type": "array", "items": 3},
        {"type": "array", "minItems": 3, "maxItems": 1},
        {"type": "array", "minItems": "x"},
        {"type": "array", "maxItems": 100_000},
        {"type": "string", "minLength": -1},
        {"type": "string", "minLength": 1.5},
        {"type": "string", "minLength": True},
        {"type": "string", "format": 3},
        {"type": "integer", "minimum": 5, "maximum": 1},
        {"type": "integer", "minimum": "x"},
        {"type": "number", "multipleOf": 0},
        {"anyOf": []},
        {"anyOf": 3},
        {"oneOf": [3]},
        {"enum": []},
        {"enum": 3},
    ],
)
def test_what_can_be_no_schema_is_refused(schema: dict[str, Any]) -> None:
    """Without a word about it, the model would answer what it likes; also where it stands inside."""
    with pytest.raises(InvalidSchemaError):
        grammar_schema(schema)
    if not schema.keys() <= {"a", "description"}:
        with pytest.raises(InvalidSchemaError):
            grammar_schema(inside(schema) if schema.get("$ref") != "#" else {"anyOf": [{"$ref": "#y"}]})


@pytest.mark.parametrize(
    "schema",
    [
        OBJECT,
        inside({}),
        inside({"title": "Anything"}),
        {"type": "object", "properties": {"n": True}},
        inside({"$ref": "#"}),
        {"$ref": "#/$defs/A", "$defs": {"A": OBJECT}},
        {"$ref": "#/definitions/a~1b", "definitions": {"a/b": OBJECT}},
        {"anyOf": [OBJECT, {"$ref": "#/anyOf/0"}]},
        {"type": ["integer", "null"]},
        {"type": "string", "pattern": r"^\p{L}+(?:-\d{2})?$", "minLength": 2, "maxLength": 3.0},
        {"type": "array", "items": [{"type": "integer"}], "uniqueItems": True},
        {"type": "integer", "exclusiveMinimum": True, "minimum": 1},
        {"type": "string", "const": None},
        OBJECT | {"if": {}, "then": {}, "not": {"required": ["q"]}, "dependentRequired": {"n": ["m"]}},
        {"type": "string", "enum": ["a"], "minLength": None, "pattern": None, "items": None},
    ],
)
def test_what_people_write_passes(schema: dict[str, Any]) -> None:
    """Keywords that a grammar cannot follow are left to llama.cpp, which is told to pass over them."""
    made = grammar_schema(schema)
    assert made.pop("x-guidance") == {"lenient": True, "coerce_one_of": True}
    assert made == {key: value for key, value in schema.items() if value is not None or key == "const"}


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"properties": {"n": {"type": "integer"}}}, "object"),
        ({"additionalProperties": False}, "object"),
        ({"items": {"type": "integer"}}, "array"),
        ({"prefixItems": []}, "array"),
        ({"pattern": "^a$"}, "string"),
        ({"format": "uuid"}, "string"),
    ],
)
def test_a_type_that_is_meant_is_written_out(schema: dict[str, Any], kind: str) -> None:
    """Ollama takes an object with properties for an object; a grammar that is strict takes a number too."""
    assert grammar_schema(schema)["type"] == kind
    assert grammar_schema(inside(schema))["properties"]["n"]["type"] == kind
    assert "type" not in grammar_schema(schema | {"anyOf": [{"type": "null"}]})


def test_a_schema_of_nothing_is_an_object() -> None:
    """As `json` alone; inside of another one it is anything."""
    assert grammar_schema({})["type"] == "object"
    assert grammar_schema(inside({}))["properties"]["n"] == {}


def test_the_caller_keeps_its_schema() -> None:
    """What is written out is written into a copy; a draft that is not known is no hindrance."""
    schema = {"$schema": "x", "properties": {}}
    assert "$schema" not in grammar_schema(schema)
    assert schema == {"$schema": "x", "properties": {}}
