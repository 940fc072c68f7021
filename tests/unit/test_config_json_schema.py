from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.contract.json_schema import DIALECT, json_schema
from supervisor.contract.schema_mistakes import sections
from supervisor.contract.yaml_tree import read_tree

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the section that a schema refers to, or itself."""
    sections: Any = json_schema()["$defs"]
    return sections[schema["$ref"].removeprefix("#/$defs/")] if "$ref" in schema else schema


def mistakes(value: object, schema: dict[str, Any], at: str = "") -> Iterator[str]:
    """Check a value against the words of JSON Schema that ours is written in, and no others."""
    schema = resolved(schema)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices and all(any(mistakes(value, choice, at)) for choice in choices):
        yield f"{at}: {value!r} is none of {choices}"
    if value != schema.get("const", value) or value not in schema.get("enum", [value]):
        yield f"{at}: {value!r} is another value"
    if "type" in schema and not _is(schema["type"], value):
        yield f"{at}: {value!r} is no {schema['type']}"
    else:
        yield from _inside(value, schema, at)


def _inside(value: object, schema: dict[str, Any], at: str) -> Iterator[str]:
    match value:
        case dict():
            yield from _mapping(value, schema, at)
        case list():
            for number, item in enumerate(value):
                yield from mistakes(item, schema.get("items", {}), f"{at}[{number}]")
        case str() if not re.search(schema.get("pattern", ""), value):
            yield f"{at}: {value!r} is not like {schema['pattern']}"
        case int() | float() if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            yield f"{at}: {value!r} is out of bounds"


def _mapping(value: dict[str, object], schema: dict[str, Any], at: str) -> Iterator[str]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    for name, item in value.items():
        if name not in known and others is False:
            yield f"{at}.{name}: is unknown"
        else:
            yield from mistakes(item, known.get(name, others), f"{at}.{name}")
    yield from (f"{at}.{name}: is missing" for name in schema.get("required", ()) if name not in value)


def _is(kind: str, value: object) -> bool:
    types: dict[str, tuple[type, ...]] = {
        "array": (list,),
        "boolean": (bool,),
        "integer": (int,),
        "null": (type(None),),
        "number": (int, float),
        "object": (dict,),
        "string": (str,),
    }
    return isinstance(value, types[kind]) and (kind == "boolean" or not isinstance(value, bool))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_the_files_that_come_with_corral_follow_the_schema(file: Path) -> None:
    """An editor must not underline what Corral takes."""
    assert list(mistakes(read_tree(file.read_text()).value, json_schema())) == []


@pytest.mark.parametrize(
    "text",
    [
        "lisen: x",
        "workers: manual",
        "workers: [{gpus: [0]}]",
        "workers: [{name: a, gpus: [nvidia0]}]",
        "workers: [{name: a, cores: 0-}]",
        "worker_defaults: {num_parallel: many}",
        "worker_defaults: {keep_alive: 5 minutes}",
        "worker_defaults: {memory: 20}",
        "worker_defaults: {flash_attention: 'yes'}",
        "external: [{name: a, url: 10.0.0.7, memory: 8GiB}]",
        "external: [{name: a, url: 'http://10.0.0.7'}]",
        "models: {a: {min_replicas: 65}}",
        "gateway: {load_timeout: -1}",
        "auth: yes",
    ],
)
def test_an_editor_can_see_the_common_mistakes(text: str) -> None:
    """Wrong names, types and forms."""
    assert list(mistakes(read_tree(text).value, json_schema()))


@pytest.mark.parametrize(
    "text",
    [
        "worker_defaults: {keep_alive: -1, memory: 80%, num_parallel: 4}",
        "worker_defaults: {keep_alive: 1h30m, memory: 1.5 GiB, flash_attention: null}",
        "gateway: {load_timeout: 90, idle_timeout: 5m, max_body_size: 1000}",
        "workers: [{name: a, gpus: [0, GPU-5a6b, MIG-1f], cores: null}, {name: b, cores: '0-3,8'}]",
    ],
)
def test_every_form_of_a_value_is_in_the_schema(text: str) -> None:
    """Sizes, shares and durations are texts or numbers."""
    assert list(mistakes(read_tree(text).value, json_schema())) == []


def test_every_key_is_described() -> None:
    """In one line, in the words of the schema's source."""
    schema: Any = json_schema()
    assert schema["$schema"] == DIALECT
    assert len(schema["$defs"]) == len(sections()) - 1
    for section in [schema, *schema["$defs"].values()]:
        for name, key in section["properties"].items():
            description = resolved(key).get("description", "")
            assert description, name
            assert "\n" not in description
            assert "title" not in key
