"""YAML text as plain data, with the line of every key.

Decides what the text says, by YAML 1.2's core schema: `no` is a text, `1:30` too, `1e3` a number, there
are no dates. What PyYAML would swallow is a mistake: duplicate keys, a second document, anchors, tags.
Must not know which keys mean anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Final

import yaml
from pydantic import JsonValue

from supervisor.contract.mistakes import Key
from supervisor.contract.values import shown

_DEEPEST: Final = 16
"""No key of the schema lies deeper than four; this bounds the recursion."""
_MOST: Final = 50_000
"""Beginnings and ends of values; this bounds the time."""
_NULL: Final = re.compile(r"(null|Null|NULL|~|)\Z")
_TRUE: Final = re.compile(r"(true|True|TRUE)\Z")
_FALSE: Final = re.compile(r"(false|False|FALSE)\Z")
_INT: Final = re.compile(r"[-+]?[0-9]{1,18}\Z")
_OCTAL: Final = re.compile(r"0o[0-7]{1,20}\Z")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]{1,15}\Z")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_INFINITY: Final = re.compile(r"[-+]?\.(inf|Inf|INF)\Z")
_NAN: Final = re.compile(r"\.(nan|NaN|NAN)\Z")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")


@dataclass(frozen=True, slots=True)
class TreeMistake:
    """Something that is wrong with the YAML itself, where it stands."""

    line: int
    key: Key
    message: str


@dataclass(slots=True)
class Tree:
    """What a file says."""

    value: JsonValue = None
    lines: dict[Key, int] = field(default_factory=dict)
    """The line, from 1, of every key and list item."""
    mistakes: list[TreeMistake] = field(default_factory=list)

    def line_of(self, key: Key) -> int | None:
        """Return the line of a key, or of the nearest one around it that the file holds."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key)


def read_tree(text: str) -> Tree:
    """Return what one YAML document says; never raises, mistakes are in the result."""
    reader = _Reader(_bounded(yaml.parse(text, Loader=yaml.SafeLoader)))
    try:
        reader.read()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        reader.note(line, (), f"this is no YAML: {_problem(error)}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        reader.note(line, (), f"the character U+{error.character:04X} may not stand in YAML")
    except _TooDeepError as error:
        reader.note(error.args[0], (), "lists and keys are nested too deep; nothing in this file needs that")
    except _TooLongError as error:
        reader.tree.mistakes.clear()  # they are those of some other kind of file
        reader.note(error.args[0], (), "more keys and values than any configuration has: name another file")
    return reader.tree


def _bounded(events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
    for number, event in enumerate(events):
        if number > _MOST:
            raise _TooLongError(_line(event))
        yield event


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "it cannot be read"
    if r"'\t'" in problem:
        return f"{problem}; indent with spaces, not with tabs"
    return f"{problem} {error.context}" if error.context else problem


class _TooDeepError(Exception):
    """Holds the line at which the nesting became too deep."""


class _TooLongError(Exception):
    """Holds the line at which there was enough."""


class _Reader:
    """Turns the parser's events into a tree."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self.tree = Tree()

    def note(self, line: int, key: Key, message: str) -> None:
        self.tree.mistakes.append(TreeMistake(line, key, message))

    def read(self) -> None:
        documents = 0
        for event in self._events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            documents += 1
            if documents > 1:
                self.note(_line(event), (), "a second document begins: a file holds one, so remove the ---")
                return
            self.tree.value = self._value(next(self._events), ())

    def _value(self, event: yaml.Event, key: Key) -> JsonValue:
        if len(key) > _DEEPEST:
            raise _TooDeepError(_line(event))
        if isinstance(event, yaml.AliasEvent):
            self.note(_line(event), key, f"*{event.anchor} is an alias: write the value out")
            return None
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self.note(_line(event), key, f"&{event.anchor} is an anchor: remove it, and write values out")
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.tag is not None:
            self.note(_line(event), key, f"{event.tag} is a tag: remove it; put texts into quotes")
        match event:
            case yaml.MappingStartEvent():
                return self._mapping(key)
            case yaml.SequenceStartEvent():
                return self._sequence(key)
            case yaml.ScalarEvent():
                return self._scalar(event, key)
        raise AssertionError(event)

    def _scalar(self, event: yaml.ScalarEvent, key: Key) -> JsonValue:
        value = event.value if event.style is not None else _resolve(event.value)
        if isinstance(value, float) and not isfinite(value):
            self.note(_line(event), key, f"{shown(event.value)} is no number that can be used here")
            return None
        if _SURROGATE.search(event.value):
            self.note(_line(event), key, f"{event.value!a} holds half of a character: write it whole")
            return None
        return value

    def _skip(self, event: yaml.Event) -> None:
        """Read over a value that has no place in the tree."""
        depth = _step(event)
        while depth > 0:
            depth += _step(next(self._events))

    def _sequence(self, key: Key) -> list[JsonValue]:
        items: list[JsonValue] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            item_key = (*key, len(items))
            self.tree.lines[item_key] = _line(event)
            items.append(self._value(event, item_key))
        return items

    def _mapping(self, key: Key) -> dict[str, JsonValue]:
        entries: dict[str, JsonValue] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = _line(event)
            name = self._name(event, key)
            value_event = next(self._events)
            if name is None:
                self._skip(value_event)
            elif name in entries:
                first = self.tree.lines[(*key, name)]
                self.note(line, (*key, name), f"is given twice, first in line {first}: keep one of the two")
                self._skip(value_event)
            else:
                self.tree.lines[(*key, name)] = line
                entries[name] = self._value(value_event, (*key, name))
        return entries

    def _name(self, event: yaml.Event, key: Key) -> str | None:
        """Return a mapping's key, or note why it is none."""
        value = self._value(event, (*key, "?"))
        if isinstance(value, str):
            return value
        message = "a key must be a text"
        if isinstance(event, yaml.ScalarEvent):
            message = f'a key must be a text: write "{event.value}" with its quotes'
        self.note(_line(event), key, message)
        return None


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None, "the parser marks every event"
    return event.start_mark.line + 1


def _step(event: yaml.Event) -> int:
    """Return how much deeper the nesting is after an event."""
    if isinstance(event, yaml.CollectionStartEvent):
        return 1
    return -1 if isinstance(event, yaml.CollectionEndEvent) else 0


def _resolve(text: str) -> JsonValue:
    """Return the value of a text without quotes."""
    if _NULL.match(text):
        return None
    if _TRUE.match(text) or _FALSE.match(text):
        return bool(_TRUE.match(text))
    if _INT.match(text):
        return int(text)
    if _OCTAL.match(text) or _HEX.match(text):
        return int(text, 0)
    if _INFINITY.match(text) or _NAN.match(text):
        return float(text.replace(".", ""))
    return float(text) if _FLOAT.match(text) else text
