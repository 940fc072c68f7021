"""The JSON schemas that answers are held to, as llama.cpp's grammars read them. Pure.

Of a schema that it cannot make a grammar of, llama.cpp says nothing, and the model answers what it likes.
So what can be no schema is refused here, as Ollama refuses it; keywords that a grammar cannot hold an answer
to are passed over, as Ollama passes over them; and what a schema means without a `type` is written out as
Ollama reads it. A schema that nothing can satisfy (a text that is a number) is not found.

Source: what Ollama 0.24 was seen to answer, and which schemas llama.cpp's llguidance was seen to drop.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = dict[str, Any]

MOST_ITEMS: Final = 2000
"""Of a list whose length is bounded: of many more llama.cpp makes no grammar."""
_LENIENT: Final = {"x-guidance": {"lenient": True, "coerce_one_of": True}}
_TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_CHOICES: Final = ("anyOf", "oneOf")
_LISTS: Final = (*_CHOICES, "allOf", "prefixItems")
_NAMED: Final = ("properties", "patternProperties", "$defs", "definitions")
_SINGLE: Final = ("items", "additionalProperties")
_IMPLIED: Final[Mapping[str, str]] = {
    "properties": "object",
    "additionalProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "pattern": "string",
    "format": "string",
}
_COMPLETE: Final = frozenset({"type", "$ref", "enum", "const", *_CHOICES, "allOf"})
"""Keywords of which each says by itself what is meant."""
_COUNTS: Final = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties"))
_BOUNDS: Final = ("minimum", "maximum")
_NO_GRAMMAR: Final = re.compile(r"(?<!\\)(?:\\\\)*(?:\(\?(?!:)|\\[bBAZ1-9])")
"""What regular expressions have and grammars have not: looks around, words' ends, what was found before."""


class InvalidSchemaError(ValueError):
    """No answer can be held to the schema; the text says what is wrong with it."""


def grammar_schema(schema: Mapping[str, Any]) -> Schema:
    """Return a schema as llama.cpp takes it.

    Raises:
        InvalidSchemaError: it can be none.
    """
    if not schema:
        return {"type": "object"} | _LENIENT
    if _COMPLETE.isdisjoint(schema) and _IMPLIED.keys().isdisjoint(schema):
        raise InvalidSchemaError("it says nothing of the answer: give it a type")
    root: Schema = json.loads(json.dumps(schema))
    left: list[object] = [root]
    while left:
        node = left.pop()
        if isinstance(node, bool):
            continue
        if not isinstance(node, dict):
            raise InvalidSchemaError(f"{json.dumps(node)[:100]} stands where a schema is meant")
        _drop_nulls(node)
        for problem in _problems(node, root):
            raise InvalidSchemaError(problem)
        left.extend(_inner(node))
        _write_out(node)
    root.pop("$schema", None)  # of one that it does not know, llama.cpp makes nothing
    return root | _LENIENT


def _drop_nulls(node: Schema) -> None:
    """Take away keywords that were written without a value."""
    for key in [key for key, value in node.items() if value is None and key not in ("type", "const")]:
        del node[key]


def _write_out(node: Schema) -> None:
    """Say of which type a value is, where Ollama takes that from other keywords."""
    implied = next((kind for key, kind in _IMPLIED.items() if key in node), "")
    if implied and _COMPLETE.isdisjoint(node):
        node["type"] = implied


def _inner(node: Schema) -> Iterator[object]:
    for key in _NAMED:
        yield from node.get(key, {}).values()
    for key in _LISTS:
        yield from node.get(key, ())
    for key in _SINGLE:
        if key in node:
            yield from node[key] if isinstance(node[key], list) else (node[key],)


def _problems(node: Schema, root: Schema) -> Iterator[str]:
    """Yield what is wrong with a node by itself."""
    yield from _wrong_kinds(node)
    yield from _wrong_type(node)
    if "$ref" in node and (_resolved(root, node["$ref"]) in (None, node)):
        yield f"$ref {json.dumps(node['$ref'])} leads nowhere in the schema"
    for pattern in (*node.get("patternProperties", ()), *([node["pattern"]] if "pattern" in node else ())):
        if not _is_regular(pattern):
            yield f"pattern {json.dumps(pattern)[:100]} is none that an answer can be held to"
    for least, most in (*_COUNTS, _BOUNDS):
        yield from _wrong_bounds(node, least, most)
    if node.get("maxItems", 0) > MOST_ITEMS or node.get("minItems", 0) > MOST_ITEMS:
        yield f"minItems and maxItems can be {MOST_ITEMS} at most"
    if node.get("additionalProperties") is False:
        missing = set(node.get("required", ())) - set(node.get("properties", ()))
        if missing and "patternProperties" not in node:
            yield f"required names what is no property: {', '.join(sorted(missing))[:100]}"


def _wrong_kinds(node: Schema) -> Iterator[str]:
    """Yield which keywords have a value of another kind than theirs."""
    for key in _NAMED:
        if not isinstance(node.get(key, {}), dict):
            yield f"{key} must be an object"
    for key in (*_LISTS, "enum", "required"):
        if not isinstance(node.get(key, []), list):
            yield f"{key} must be a list"
        if node.get(key) == [] and key in (*_CHOICES, "enum"):
            yield f"{key} must not be empty"
    if not all(isinstance(name, str) for name in node.get("required", ())):
        yield "required must be a list of texts"
    if not isinstance(node.get("format", ""), str):
        yield "format must be a text"
    if not _is_number(node.get("multipleOf", 1)) or node.get("multipleOf", 1) <= 0:
        yield "multipleOf must be a number above 0"


def _wrong_type(node: Schema) -> Iterator[str]:
    if "type" not in node:
        return
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    if not kinds or not all(isinstance(kind, str) and kind in _TYPES for kind in kinds):
        yield f"type {json.dumps(node['type'])[:100]} is none of {', '.join(sorted(_TYPES))}"


def _wrong_bounds(node: Schema, least: str, most: str) -> Iterator[str]:
    found = {key: node[key] for key in (least, most) if key in node}
    numbers = list(found.values())
    if not all(_is_number(number) for number in numbers):
        yield f"{least} and {most} must be numbers"
    elif (least, most) != _BOUNDS and any(number < 0 or number % 1 for number in numbers):
        yield f"{least} and {most} must be whole numbers from 0 on"
    elif numbers != sorted(numbers):
        yield f"{least} is more than {most}"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_regular(pattern: object) -> bool:
    if not isinstance(pattern, str) or _NO_GRAMMAR.search(pattern):
        return False
    try:
        re.compile(re.sub(r"\\[pP]\{\w+\}", r"\\w", pattern))
    except re.error:
        return False
    return True


def _resolved(root: Schema, ref: object) -> object:
    """Return the schema that a reference within this one stands for; None for none."""
    if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
        return None
    node: object = root
    for step in ref.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list):
            node = node[int(name)] if name.isascii() and name.isdigit() and int(name) < len(node) else None
        else:
            node = node.get(name) if isinstance(node, dict) else None
    return node if isinstance(node, (dict, bool)) else None
