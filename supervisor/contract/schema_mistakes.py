"""What pydantic found wrong with a configuration, in the words of somebody who edits the file.

Decides the sentences and which key each belongs to. Must not know YAML or lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, get_args

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from supervisor.contract.config import REPEATED_NAME, Config
from supervisor.contract.mistakes import Key, Mistake
from supervisor.contract.values import shown

_Section = type[BaseModel]
_SECTIONS: Final = "sections"
"""Where a sentence's context holds the sections of the schema, by their keys."""
_BRACKETS: Final[Mapping[object, str]] = {tuple: "[]", dict: "{}"}


@dataclass(frozen=True, slots=True)
class SchemaMistake:
    """One value that the schema refuses; its sentence is found when it is read, because guesses take time."""

    key: Key
    _details: ErrorDetails
    _sections: Mapping[str, _Section]

    @property
    def message(self) -> str:
        """What is wrong and what to write instead, in one sentence."""
        details = self._details
        sentence = _SENTENCES.get(details["type"])
        if sentence is None:
            return f"{shown(details['input'])} is wrong: {details['msg']}"
        return sentence(self.key, details["input"], {**details.get("ctx", {}), _SECTIONS: self._sections})


def schema_mistakes(
    error: ValidationError, tree: JsonValue, schema: _Section = Config
) -> list[Mistake | SchemaMistake]:
    """Return the mistakes of a tree that the schema refuses, one for each thing to mend."""
    every = sections(schema)
    refused = [
        SchemaMistake(_key_in(tree, details["loc"]), details, every)
        for details in error.errors(include_url=False)
        if details["type"] != REPEATED_NAME and not _counts_the_wrong_ones(details)
    ]
    return [*refused, *_repeated_names(tree)]


def _counts_the_wrong_ones(details: ErrorDetails) -> bool:
    """Whether a list is called too short although its entries are told of: pydantic counts the right ones."""
    return details["type"] == "too_short" and bool(details["input"])


def sections(model: _Section = Config, at: str = "") -> dict[str, _Section]:
    """Return every section of the schema by its key: `KEY[]` is a list of them, `KEY{}` names with them."""
    found = {at: model}
    for name, field in model.model_fields.items():
        for section, inside in _sections_in(field.annotation, ""):
            found |= sections(section, f"{at}.{name}".removeprefix(".") + inside)
    return found


def _sections_in(annotation: object, inside: str) -> Iterator[tuple[_Section, str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, inside
    brackets = _BRACKETS.get(getattr(annotation, "__origin__", None), "")
    for argument in get_args(annotation):
        yield from _sections_in(argument, inside + brackets)


def _key_in(tree: JsonValue, loc: tuple[int | str, ...]) -> Key:
    """Return pydantic's path without the steps that name its types and not the file's keys."""
    key: list[int | str] = []
    for at, step in enumerate(loc):
        match tree, step:
            case dict(), str() if step in tree:
                tree = tree[step]
            case list(), int():
                tree = tree[step]
            case dict(), str() if at == len(loc) - 1 and step != "[key]":
                pass  # the key that is missing
            case _:
                continue
        key.append(step)
    return tuple(key)


def _unknown_key(key: Key, _value: object, context: Mapping[str, Any]) -> str:
    every = context[_SECTIONS]
    name, place = str(key[-1]), _place(key[:-1], every)
    here = list(every[place].model_fields)
    close = get_close_matches(name.lower().replace("-", "_"), here, n=1)
    if close:
        return f"is not known here; did you mean {close[0]}?"
    elsewhere = [
        section or "the top of the file" for section, model in every.items() if name in model.model_fields
    ]
    if elsewhere:
        return f"is not known here; it belongs under {_alternatives(elsewhere)}"
    return f"is not known here; the keys here are {', '.join(here)}"


def _alternatives(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _place(key: Key, every: Mapping[str, _Section]) -> str:
    """Return the section that a key leads to, as `sections` calls it."""
    place = ""
    for step in key:
        if isinstance(step, int):
            place += "[]"
        elif f"{place}{{}}" in every:
            place += "{}"
        else:
            place = f"{place}.{step}".removeprefix(".")
    return place


def _one_of(_key: Key, value: object, context: Mapping[str, Any]) -> str:
    return f"must be {str(context['expected']).replace(chr(39), '')}, not {shown(value)}"


def _text(_key: Key, value: object, _context: Mapping[str, Any]) -> str:
    if value is None:
        return "is empty: write a value behind it, or leave the key out"
    if isinstance(value, (dict, list)):
        return f"must be a text, not {shown(value)}"
    return f'must be a text, not {shown(value)}: put it into quotes, "{shown(value)}"'


def _whole_number(_key: Key, value: object, _context: Mapping[str, Any]) -> str:
    return f"must be a whole number, not {shown(value)}"


def _section(key: Key, value: object, context: Mapping[str, Any]) -> str:
    every = context[_SECTIONS]
    keys = ", ".join(every[_place(key, every)].model_fields)
    if value is None:
        return f"is empty: write its keys beneath it, indented, or leave it out (keys: {keys})"
    return f"must be keys with values ({keys}), not {shown(value)}"


def _list(_key: Key, value: object, _context: Mapping[str, Any]) -> str:
    example = "a, b" if value is None or isinstance(value, dict) else shown(value)
    return f"must be a list, not {shown(value)}: write [{example}]"


def _own_words(_key: Key, _value: object, context: Mapping[str, Any]) -> str:
    return str(context["error"])


_SENTENCES: Final[Mapping[str, Callable[[Key, object, Mapping[str, Any]], str]]] = {
    "bool_type": lambda _key, value, _: f"must be true or false, not {shown(value)}",
    "dict_type": lambda _key, value, _: f"must be names with values (NAME: value), not {shown(value)}",
    "extra_forbidden": _unknown_key,
    "finite_number": lambda _key, value, _: f"must be a finite number, not {shown(value)}",
    "float_type": lambda _key, value, _: f"must be a number, not {shown(value)}",
    "greater_than": lambda _key, value, ctx: f"must be more than {ctx['gt']}, not {shown(value)}",
    "greater_than_equal": lambda _key, value, ctx: f"must be at least {ctx['ge']}, not {shown(value)}",
    "int_from_float": _whole_number,
    "int_type": _whole_number,
    "less_than_equal": lambda _key, value, ctx: f"must be at most {ctx['le']}, not {shown(value)}",
    "literal_error": _one_of,
    "missing": lambda _key, _value, _: "is missing: it has no default, so write it",
    "model_type": _section,
    "string_type": _text,
    "too_short": lambda _key, _value, ctx: f"is empty: write at least {ctx['min_length']} of them",
    "tuple_type": _list,
    "value_error": _own_words,
    "workers": lambda _key, value, _: f"must be auto or a list of workers, not {shown(value)}",
}
"""Sentences by pydantic's type of error: what is wrong and what to write instead."""


def _repeated_names(tree: JsonValue) -> Iterator[Mistake]:
    """Find workers of one name even where other mistakes keep the schema from looking."""
    workers = tree.get("workers") if isinstance(tree, dict) else None
    first: dict[str, int] = {}
    for at, worker in enumerate(workers if isinstance(workers, list) else []):
        name = worker.get("name") if isinstance(worker, dict) else None
        if not isinstance(name, str):
            continue
        if name in first:
            message = f"{shown(name)} is the name of workers[{first[name]}] already: each needs its own"
            yield Mistake(("workers", at, "name"), message)
        first.setdefault(name, at)
