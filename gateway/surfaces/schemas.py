"""Which JSON schemas an Ollama dies of when an answer is to follow them. Pure.

Ollama turns the schema of `format` into a grammar in llama.cpp's language. A few schemas crash the server
while it does, and so end every request on it; others give a grammar that its runner cannot parse, and the
runner crashes without looking, which ends all requests for that model. What is listed here was seen to do
one or the other to a real Ollama 0.24; the bounds are those of its `common/json-schema-to-grammar.cpp`,
`src/llama-grammar.cpp` and `llama.SchemaToGrammar`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

MOST_REPETITIONS: Final = 2000
"""More is an error in the grammar's parser."""
LONGEST_NAME: Final = 1000
"""Of a property: of some ten thousand odd characters the stack overflows."""
LONGEST_PATTERN: Final = 1000

_LEAST_GRAMMAR_BYTES: Final = 32 * 2**10
_MOST_GRAMMAR_BYTES: Final = 2**20
_GROWTH: Final = 4
"""A grammar may have so many times the bytes of its schema, at least the first and at most the second of the
above; what is longer is cut off, and then is no grammar any more."""
_UNCERTAINTY: Final = 1.15
"""The size is estimated: only what is clearly too large counts."""
_RULES_OF_TYPES_BYTES: Final = 1000

_ALTERNATIVES: Final = ("anyOf", "oneOf")
_SCHEMA_LISTS: Final = (*_ALTERNATIVES, "allOf", "prefixItems")
_COUNTS: Final = (("string", "minLength", "maxLength"), ("array", "minItems", "maxItems"))

_CLASS_CHARACTER: Final = r'(?:[^\]\[\\\x00-\x1f]|\\[nrt\\"\[\]]|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4})'
_PIECE: Final = re.compile(
    rf"(?:(?P<open>\((?!\?))|(?P<bar>\|)|(?:(?P<close>\))|\.|(?P<set>\[\^?{_CLASS_CHARACTER}+\])"
    r'|\\[\^$.\[\](){}|*+?nrt\\"]|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|[^\\.()\[\]{}|*+?\x00-\x1f])'
    r"(?:[*+?]|\{(?P<least>[0-9]{1,4})(?P<most>,[0-9]{0,4})?\})?)"
)
"""One piece of a regular expression of the kind that comes out as a grammar."""
_RANGE: Final = re.compile(r"([^\\\]])-([^\\\]])")


def schema_risk(schema: object) -> str | None:
    """Return what in a schema is known to crash an Ollama, or None."""
    left: list[tuple[object, int]] = [(schema, 0)]
    grammar_bytes = _RULES_OF_TYPES_BYTES
    while left:
        node, path = left.pop()
        if isinstance(node, dict):
            found = next(_risks_of(node), None)
            if found is not None:
                return found
            grammar_bytes += _grammar_bytes(node, path)
            left.extend(_inner(node, path))
    if isinstance(schema, dict) and _refers_to_itself(schema):
        return "a $ref that leads to itself"
    return _size_risk(schema, grammar_bytes)


def _size_risk(schema: object, grammar_bytes: int) -> str | None:
    written_bytes = len(json.dumps(schema)) * _GROWTH
    room_bytes = max(_LEAST_GRAMMAR_BYTES, min(_MOST_GRAMMAR_BYTES, written_bytes))
    return "so many or so deeply nested properties" if grammar_bytes > room_bytes * _UNCERTAINTY else None


def _risks_of(node: Schema) -> Iterator[str]:
    """Yield what is wrong with one node by itself."""
    for key in ("type", *_ALTERNATIVES):
        if node.get(key) == []:
            yield f"an empty {key}"
    for kind, least, most in _COUNTS:
        if node.get("type") == kind and not _is_count(node.get(least), node.get(most)):
            yield f"{least} or {most} above {MOST_REPETITIONS}, negative or contradictory"
    if node.get("type") == "integer" and not _is_range(node):
        yield "an integer between bounds that exclude each other"
    properties = node.get("properties")
    if isinstance(properties, dict) and any(len(name) > LONGEST_NAME for name in properties):
        yield f"a property's name of more than {LONGEST_NAME} characters"
    pattern = node.get("pattern")
    if isinstance(pattern, str) and node.get("type", "string") == "string" and not is_plain(pattern):
        yield f"the pattern {pattern[:100]!r}"


def _is_count(least: object, most: object) -> bool:
    """Whether bounds can be repeated; what is no number is refused by Ollama itself."""
    numbers = [bound for bound in (least, most) if isinstance(bound, (int, float))]
    return numbers == sorted(numbers) and all(0 <= number <= MOST_REPETITIONS for number in numbers)


def _is_range(node: Schema) -> bool:
    least = node.get("minimum", _shifted(node.get("exclusiveMinimum"), 1))
    most = node.get("maximum", _shifted(node.get("exclusiveMaximum"), -1))
    return not (isinstance(least, (int, float)) and isinstance(most, (int, float))) or least <= most


def _shifted(bound: object, by: int) -> object:
    return bound + by if isinstance(bound, (int, float)) else None


def is_plain(pattern: str) -> bool:
    r"""Whether a regular expression has only what becomes a grammar: no `\d`, no `(?:`, no nested counts.

    One that is not anchored at both ends is refused by Ollama itself.
    """
    if not (pattern.startswith("^") and pattern.endswith("$") and len(pattern) > 1):
        return bool(pattern)
    inside, at, depth = pattern[1:-1], 0, 0
    while at < len(inside):
        piece = _PIECE.match(inside, at)
        if piece is None or not _is_sound(piece):
            return False
        depth += (piece["open"] is not None) - (piece["close"] is not None)
        at = piece.end()
        if depth < 0:
            return False
    return depth == 0 and len(pattern) <= LONGEST_PATTERN


def _is_sound(piece: re.Match[str]) -> bool:
    least, most = piece["least"], (piece["most"] or "").lstrip(",")
    if least is not None and not int(least) <= int(most or least) <= MOST_REPETITIONS:
        return False
    return all(start <= end for start, end in _RANGE.findall(piece["set"] or ""))


def _inner(node: Schema, path: int) -> Iterator[tuple[object, int]]:
    """Yield the schemas directly inside, each with the length of its rule's name."""
    for keyword in ("properties", "$defs", "definitions"):
        named = node.get(keyword)
        if isinstance(named, dict):
            yield from ((inner, path + 1 + len(name)) for name, inner in named.items())
    for keyword in _SCHEMA_LISTS:
        listed = node.get(keyword)
        if isinstance(listed, list):
            yield from ((inner, path + 2) for inner in listed)
    for keyword in ("items", "additionalProperties"):
        yield node.get(keyword), path + len("-item")


def _grammar_bytes(node: Schema, path: int) -> int:
    """Return about how long the rules of one node are, the rules of what is inside left out."""
    properties = node.get("properties")
    if not isinstance(properties, dict):
        return len(json.dumps(node["enum"])) if "enum" in node else 0
    required = node.get("required")
    always = set(map(str, required)) if isinstance(required, list) else set()
    optional = [name for name in properties if name not in always]
    lengths = sum(_rule_bytes(path + 1 + len(name), len(name)) for name in properties)
    chained = sum(4 * (path + 1 + len(name)) + 30 for name in optional[:-1])
    return 40 + path + lengths + chained


def _rule_bytes(path: int, name: int) -> int:
    """Return the length of what names a property, gives its value and mentions it in its object."""
    return 3 * path + name + 45


def _refers_to_itself(root: Schema) -> bool:
    """Whether a `$ref` comes back to itself before anything is written. Each is followed once."""
    on_the_way: dict[str, bool] = {}
    left = list(_refs_anywhere(root))
    while left:
        ref = left[-1]
        if ref in on_the_way:
            on_the_way[ref] = False
            left.pop()
            continue
        on_the_way[ref] = True
        for further in _refs_at_once(_resolved(root, ref)):
            if on_the_way.get(further):
                return True
            if further not in on_the_way:
                left.append(further)
    return False


def _refs_anywhere(root: Schema) -> Iterator[str]:
    left: list[object] = [root]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            ref = node.get("$ref")
            if isinstance(ref, str):
                yield ref
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)


def _refs_at_once(node: object) -> list[str]:
    """Return where a node leads without anything before it."""
    found, left = [], [node]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            ref = one.get("$ref")
            if isinstance(ref, str):
                found.append(ref)
            lists = (one.get(key) for key in _ALTERNATIVES)
            left.extend(inner for listed in lists if isinstance(listed, list) for inner in listed)
    return found


def _resolved(root: Schema, ref: str) -> object:
    node: object = root
    for step in ref.removeprefix("#").split("/")[1:]:
        node = node.get(step) if isinstance(node, dict) else None
    return node
