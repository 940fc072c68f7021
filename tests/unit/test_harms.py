from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.surfaces.harms import HARMLESS, harm_of
from gateway.surfaces.schemas import is_plain, schema_risk

TEXT = {"type": "string"}


def properties(**named: Any) -> dict[str, Any]:
    """Return the schema of an object."""
    return {"type": "object", "properties": named}


def nested(depth: int, name: str) -> dict[str, Any]:
    """Return objects inside each other."""
    schema: dict[str, Any] = TEXT
    for _ in range(depth):
        schema = properties(**{name: schema})
    return schema


SOUND: dict[str, Any] = {
    "empty": {},
    "plain": properties(name=TEXT, age={"type": "integer", "minimum": 0, "maximum": 150}),
    "lists": {"type": "array", "items": TEXT, "minItems": 1, "maxItems": 2000},
    "lengths": {"type": "string", "minLength": 1, "maxLength": 2000},
    "tree": {"$ref": "#/$defs/n", "$defs": {"n": properties(next={"$ref": "#/$defs/n"})}},
    "nullable": properties(a={"anyOf": [TEXT, {"type": "null"}]}),
    "enum": {"enum": [f"value {number}" for number in range(2000)]},
    "wide": properties(**{f"property_{number}": TEXT for number in range(150)}),
    "required": properties(**{f"p_{n}": TEXT for n in range(1000)})
    | {"required": [f"p_{n}" for n in range(1000)]},
    "deep": nested(30, "property_ten"),
    "date": {"type": "string", "format": "date-time"},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
    "no type": {"minLength": 5000},
}
DEADLY: dict[str, Any] = {
    "no alternatives": {"anyOf": []},
    "no type": properties(a={"type": []}),
    "long": {"type": "string", "maxLength": 2001},
    "negative": {"type": "array", "items": TEXT, "minItems": -1},
    "contradictory lengths": {"type": "string", "minLength": 5, "maxLength": 2},
    "contradictory bounds": {"type": "integer", "minimum": 5, "maximum": 2},
    "nothing between": {"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 6},
    "a name that overflows the stack": properties(**{"!" * 100_000: TEXT}),
    "left recursion": {"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [{"$ref": "#/$defs/n"}, TEXT]}}},
    "too wide": properties(**{f"property_{number}": TEXT for number in range(500)}),
    "too deep": nested(100, "a"),
    "pattern": properties(a={"type": "string", "pattern": "^(?:a)$"}),
    "in a list": {"type": "array", "items": {"oneOf": [TEXT, {"type": "string", "pattern": r"^\d+$"}]}},
}
"""Each was seen to end a real Ollama 0.24 or its runner."""


@pytest.mark.parametrize("name", SOUND)
def test_schemas_that_people_write_are_let_through(name: str) -> None:
    """A real Ollama answers them."""
    assert schema_risk(SOUND[name]) is None


@pytest.mark.parametrize("name", DEADLY)
def test_schemas_that_end_an_ollama_are_known(name: str) -> None:
    """In words that say what to change."""
    assert schema_risk(DEADLY[name])


@pytest.mark.parametrize(
    "pattern",
    [
        "^$",
        "^abc$",
        "^[a-z]+$",
        "^(a|b)c?$",
        r"^\.\*$",
        "^a{2,5}$",
        "^a{2000}$",
        "^.*$",
        r"^[\]\[]$",
        r"^\x41$",
        "x",
    ],
)
def test_patterns_that_come_out_as_a_grammar(pattern: str) -> None:
    """The last one is no pattern to Ollama, which says so itself."""
    assert is_plain(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["", "^*$", "^(?:a)$", "^(?=a)$", r"^\d$", r"^\w+$", r"^\s$", r"^\b$", r"^[\d]$", "^a**$", "^a{2,1}$",
     "^a{2001}$", "^a{1,99999}$", "^[z-a]$", "^\x00$", "^[\x00]$", "^a\\$", "^(a$", "^a)$",
     "^" + "(" * 20000 + "$"],
)  # fmt: skip
def test_patterns_that_end_an_ollama_are_known(pattern: str) -> None:
    """`^*$` ends the whole server."""
    assert not is_plain(pattern)


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/api/chat", {"format": DEADLY["long"]}),
        (
            "/v1/chat/completions",
            {"response_format": {"type": "json_schema", "json_schema": {"schema": DEADLY["long"]}}},
        ),
        ("/v1/responses", {"text": {"format": {"type": "json_schema", "schema": DEADLY["long"]}}}),
    ],
)
def test_schemas_are_found_where_each_api_has_them(route: str, body: dict[str, Any]) -> None:
    """They reach the same grammar in the end."""
    harm = harm_of(route, body)
    assert "maxLength" in harm.ollama
    assert not harm.refusal


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ([-1], "no token"),
        ([1, 2**31], "no token"),
        ([2**63], "no token"),
        ([1.5], "cannot unmarshal number 1.5 into Go struct field GenerateRequest.context of type int"),
        (["x"], "cannot unmarshal string"),
        ([True], "cannot unmarshal bool"),
        ({"a": 1}, "cannot unmarshal object into Go struct field GenerateRequest.context of type []int"),
        ([0] * (2**20 + 1), "no more than"),
    ],
)
def test_contexts_that_are_none_are_refused(context: Any, words: str) -> None:
    """A token out of range ends the whole server."""
    assert words in harm_of("/api/generate", {"context": context}).refusal


def test_context_tells_its_highest_token() -> None:
    """Which is compared with the model's vocabulary once that is known; other routes have no context."""
    assert harm_of("/api/generate", {"context": [3, 99999999, 5]}).highest_token == 99999999
    assert harm_of("/api/generate", {"context": []}) == HARMLESS
    assert harm_of("/api/chat", {"context": [-1]}) == HARMLESS


@pytest.mark.parametrize(
    "options", [{"repeat_penalty": 0}, {"repeat_penalty": -1.5}, {"repeat_last_n": 2**31}]
)
def test_options_that_end_a_runner_are_refused(options: dict[str, Any]) -> None:
    """With the value that would be right."""
    assert next(iter(options)) in harm_of("/api/chat", {"options": options}).refusal


@pytest.mark.parametrize(
    "options", [{"repeat_penalty": 1}, {"repeat_last_n": -1}, {"repeat_penalty": "x"}, None, 3]
)
def test_other_options_are_the_workers_to_judge(options: Any) -> None:
    """Also those of the wrong type, for which it has words."""
    assert harm_of("/api/chat", {"options": options}) == HARMLESS


def test_long_chains_of_references_are_followed_once() -> None:
    """A schema must not hold the gateway up, however it is made."""
    chain = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": "#/$defs/d0"}]} for n in range(5000)}
    assert schema_risk({"$defs": chain, "$ref": "#/$defs/d0"})
    straight = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(5000)}
    schema_risk({"$defs": straight, "$ref": "#/$defs/d0"})


KEYWORDS = st.sampled_from(
    ["type", "anyOf", "$ref", "$defs", "properties", "required", "items", "pattern", "enum", "minLength"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
ANYTHING = st.recursive(
    SCALARS | st.sampled_from(["string", "integer", "array", "#", "#/$defs/a"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYWORDS | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(ANYTHING, ANYTHING)
def test_no_request_is_too_odd_to_be_looked_at(schema: Any, options: Any) -> None:
    """What no schema is and no option is comes to the worker, which says so."""
    harm_of("/api/generate", {"format": schema, "options": options, "context": None})
    harm_of("/v1/chat/completions", {"response_format": schema, "text": schema, "options": options})


def test_a_token_that_is_null_is_the_first_one() -> None:
    """Go reads null as the number's zero; a real server answers such a request."""
    assert harm_of("/api/generate", {"context": [None]}).highest_token == 0
    assert harm_of("/api/generate", {"context": [None, 7]}).highest_token == 7
