"""Go's values in Python, and how Go prints them and writes them as JSON. Pure.

Text, numbers, booleans, lists and dicts stand for themselves, None for nil. What a template sees of a Go
struct is a `Struct`; a type that prints itself is a `JsonList`, `JsonMap` or `Words`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from supervisor.models.gotemplate.lexer import TemplateError

Value: TypeAlias = Any
"""A Go value. As in Go, what it is turns out when the template asks something of it."""

NO_VALUE: Final = "<no value>"
_ESCAPED: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_EXPONENT_FROM: Final = 21


@dataclass(frozen=True, slots=True)
class Member:
    """A field of a struct."""

    name: str
    """As templates write it."""
    value: Value
    json: str
    """Its name in JSON; empty when the type has no JSON tags."""
    omit_empty: bool = False


@dataclass(frozen=True, slots=True)
class Struct:
    """A Go struct."""

    type_name: str
    members: tuple[Member, ...]
    pointer: bool = False
    """Templates see it through a pointer: inside of another value Go prints its address."""

    def member(self, name: str) -> Member | None:
        """Return the field of that name."""
        return next((member for member in self.members if member.name == name), None)


class JsonList(list[Value]):
    """A Go slice whose String method is its JSON."""


class NilJsonList(JsonList):
    """Such a slice that is nil: empty, and `null` in JSON."""


class JsonMap(dict[str, Value]):
    """A Go map whose String method is its JSON."""


class NilJsonMap(JsonMap):
    """Such a map that is nil: it prints as `{}` and is `null` inside of other JSON."""


class NilList(list[Value]):
    """A Go slice that is nil: empty, and `null` in JSON."""


class OrderedMap(dict[str, Value]):
    """A pointer to a Go struct whose JSON is a map in order of insertion. Printed, it is an address."""


class Words(list[str]):
    """A Go slice of texts that prints, and is in JSON, just its one text."""


def is_true(value: Value) -> bool:
    """Return what `if` makes of a value: empty and zero are false, a struct is true."""
    return isinstance(value, Struct) or bool(value)


def printed(value: Value) -> str:
    """Return what an action writes for a value.

    Raises:
        TemplateError: Go would print an address.
    """
    if value is None:
        return NO_VALUE
    return _struct(value) if isinstance(value, Struct) else _verb_v(value)


def _struct(value: Struct) -> str:
    return "{" + " ".join(_verb_v(member.value) for member in value.members) + "}"


def _verb_v(value: Value) -> str:
    """Return what fmt's %v makes of a value inside of another."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case float():
            return _float(value)
        case str() | int():
            return str(value)
        case _:
            return _many(value)


def _many(value: Value) -> str:
    match value:
        case NilJsonMap():
            return "{}"
        case JsonList() | JsonMap():
            return to_json(value)
        case Words() if len(value) < 2:  # noqa: PLR2004 -- several print as a list
            return "".join(value)
        case Struct() if not value.pointer:
            return _struct(value)
        case list() | tuple():
            return "[" + " ".join(map(_verb_v, value)) + "]"
        case Mapping() if not isinstance(value, OrderedMap):
            return "map[" + " ".join(f"{k}:{_verb_v(v)}" for k, v in sorted(value.items())) + "]"
    raise TemplateError("a pointer inside of a value that is printed: it would be an address")


def _float(value: float) -> str:
    """Go's %v: the shortest digits, as an exponent from 1e21 on."""
    digits, _, exponent = f"{value!r}".partition("e")
    if exponent:
        digits, power = digits.removesuffix(".0"), int(exponent)
        return f"{digits}e{power:+03d}" if abs(power) >= _EXPONENT_FROM or power < 0 else f"{value:.0f}"
    return digits.removesuffix(".0")


def to_json(value: Value) -> str:
    """Return a value as Go's encoding/json writes it: maps in order of their keys, < > & escaped."""
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    return "".join(_ESCAPED.get(letter, letter) for letter in text)


def _plain(value: Value) -> Value:  # noqa: PLR0911 -- one line for each of Go's kinds
    match value:
        case Struct():
            return dict(_json_members(value))
        case NilJsonList() | NilList() | NilJsonMap():
            return None
        case Words():
            return value[0] if len(value) == 1 else list(value)
        case list() | tuple():
            return [_plain(item) for item in value]
        case OrderedMap():
            return {key: _plain(item) for key, item in value.items()}
        case Mapping():
            return {key: _plain(value[key]) for key in sorted(value)}
        case float() if value.is_integer() and abs(value) < 10**_EXPONENT_FROM:
            return int(value)
        case _:
            return value


def _json_members(value: Struct) -> Iterator[tuple[str, Value]]:
    for member in value.members:
        empty = member.value is None or (not isinstance(member.value, Struct) and not member.value)
        if not (member.omit_empty and empty):
            yield member.json or member.name, _plain(member.value)
