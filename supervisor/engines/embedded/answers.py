"""What a model says, taken apart: thoughts, tool calls, and the rest. Pure.

For prompts that were made with a store's own template; where llama.cpp applies the template it also reads
the answer. The marks come from that template (`models/prompt_tags.py`).

Source: Ollama 0.24 `thinking/parser.go` and `tools/tools.go`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any, Final

from supervisor.engines.embedded.events import End, Event, Piece
from supervisor.engines.embedded.stops import overlap
from supervisor.models.prompt_tags import ANY_OBJECT

_LISTS: Final = {ANY_OBJECT: "}", "[": "]"}


class _Stage(Enum):
    """How far the thoughts have come."""

    BEFORE = auto()
    BEGUN = auto()
    THINKING = auto()
    ENDED = auto()
    AFTER = auto()


@dataclass(slots=True)
class Thoughts:
    """Splits a text that comes in parts into thoughts and the rest."""

    opening: str
    closing: str
    _stage: _Stage = _Stage.BEFORE
    _held: str = ""

    def add(self, text: str) -> tuple[str, str]:
        """Return the thoughts and the rest that are certain by now."""
        self._held += text
        if self._stage is _Stage.BEFORE:
            self._stage = self._begun()
        if self._stage is _Stage.BEGUN:
            self._stage = self._after_blank(_Stage.BEGUN, _Stage.THINKING)
        if self._stage is _Stage.THINKING:
            return self._thought()
        if self._stage is _Stage.ENDED:
            self._stage = self._after_blank(_Stage.ENDED, _Stage.AFTER)
        return "", self._rest() if self._stage is _Stage.AFTER else ""

    def end(self) -> tuple[str, str]:
        """Return what was held back, now that nothing follows."""
        rest = self._rest()
        return (rest, "") if self._stage is _Stage.THINKING else ("", rest)

    def _begun(self) -> _Stage:
        """Look for the opening mark; a text without it at its start holds no thoughts."""
        text = self._held.lstrip()
        if text.startswith(self.opening):
            self._held = text.removeprefix(self.opening)
            return _Stage.BEGUN
        return _Stage.BEFORE if self.opening.startswith(text) else _Stage.AFTER

    def _after_blank(self, waiting: _Stage, following: _Stage) -> _Stage:
        """Drop blank space at the start of a part."""
        self._held = self._held.lstrip()
        return following if self._held else waiting

    def _thought(self) -> tuple[str, str]:
        thought, closed, rest = self._held.partition(self.closing)
        if closed:
            self._held = rest.lstrip()
            self._stage = _Stage.AFTER if self._held else _Stage.ENDED
            return thought, self._rest()
        keep = overlap(thought, self.closing)
        self._held = thought[len(thought) - keep :]
        return thought[: len(thought) - keep], ""

    def _rest(self) -> str:
        rest, self._held = self._held, ""
        return rest


@dataclass(slots=True)
class Calls:
    """Finds tool calls in a text that comes in parts."""

    mark: str
    names: Sequence[str]
    found: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    _held: str = ""
    _calling: bool = False
    _over: bool = False

    def add(self, text: str) -> str:
        """Return the text that belongs to no call, as far as that is certain."""
        if self._over:
            return text
        self._held += text
        before = "" if self._calling else self._before_mark()
        if self._over or not self._calling:
            return before
        while self._take_call():
            pass
        return before + (self._rest() if self._closed() else "")

    def end(self) -> str:
        """Return what was held back and is no call after all."""
        rest = self._rest()
        return rest if not self.found and (not self._calling or self.mark in _LISTS) else ""

    def _before_mark(self) -> str:
        """Return the text before the mark, and hold what is or may become the mark."""
        at = self._held.find(self.mark)
        self._calling = at >= 0
        if at < 0:
            at = len(self._held) - overlap(self._held, self.mark)
        before, self._held = self._held[:at], self._held[at:]
        if self.mark in _LISTS and before.strip():  # an object in the middle of a text is no call
            self._over = True
            return before + self._rest()
        return before

    def _take_call(self) -> bool:
        name, end = _first_name(self.names, self._held)
        arguments = _first_arguments(name, self._held) if name else None
        if arguments is None:
            return False
        values, last = arguments
        self.found.append((name, values))
        self._held = self._held[max(end, last) :]
        return True

    def _closed(self) -> bool:
        """Whether a list without a mark of its own has come to its end; then text follows."""
        closing = _LISTS.get(self.mark)
        depth = 0
        for letter in self._held if closing else "":
            depth += (letter == self.mark) - (letter == closing)
            if letter == closing and depth == 0:
                self._over = True
                return True
        return False

    def _rest(self) -> str:
        rest, self._held = self._held, ""
        return rest


@dataclass(slots=True)
class Reading:
    """Reads one answer's events."""

    new_id: Callable[[], str]
    """Makes the id of a tool call."""
    thoughts: Thoughts | None = None
    calls: Calls | None = None
    _text: str = ""

    def read(self, event: Event) -> Iterator[Event]:
        """Yield what an event says, once it is certain."""
        if isinstance(event, Piece):
            self._text += event.content
            if self.thoughts is None and self.calls is None:
                yield event
                return
            thinking, content = self.thoughts.add(event.content) if self.thoughts else ("", event.content)
            content = self.calls.add(content) if self.calls else content
            if thinking or content or event.logprobs:
                yield replace(event, content=content, thinking=thinking)
            return
        thinking, content = self.thoughts.end() if self.thoughts else ("", "")
        if self.calls:
            content = self.calls.add(content) + self.calls.end()
        if thinking or content:
            yield Piece(content=content, thinking=thinking)
        yield self._with_calls(event)

    def _with_calls(self, end: End) -> End:
        calls = end.tool_calls or tuple(
            {"id": self.new_id(), "function": {"index": n, "name": name, "arguments": values}}
            for n, (name, values) in enumerate(self.calls.found if self.calls else ())
        )
        return replace(end, tool_calls=calls, text=self._text)


def _first_name(names: Sequence[str], text: str) -> tuple[str, int]:
    """Return the tool that is named first, and where its name ends; none while a name may go on."""
    if any(0 < overlap(text, name) < len(name) for name in names):
        return "", 0
    places = [(text.find(name), -len(name), name) for name in names if name and name in text]
    if not places:
        return "", 0
    at, length, name = min(places)
    return name, at - length


def _first_arguments(name: str, text: str) -> tuple[Mapping[str, Any], int] | None:
    """Return the first object that may hold the tool's arguments, and the place of its end."""
    start = text.find("{")
    while start >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, start)
        except ValueError:
            start = text.find("{", start + 1) if _complete(text[start:]) else -1
            continue
        found, arguments = _arguments_in(name, value)
        if not found:
            return value, end
        if arguments is not None:
            return arguments, end
        start = text.find("{", end)
    return None


def _complete(text: str) -> bool:
    """Whether the braces of an object that is no JSON are all there, so that it will not become any."""
    depth = 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return True
    return False


def _arguments_in(name: str, value: Mapping[str, Any]) -> tuple[bool, Mapping[str, Any] | None]:
    """Return whether the object is a call, and its arguments."""
    if "name" in value:
        given = [_as_object(value.get(key)) for key in ("arguments", "parameters")]
        return True, next((item for item in given if item is not None), None)
    if (own := _as_object(value.get(name))) is not None:
        return True, own
    for child in value.values():
        for item in child if isinstance(child, list) else [child]:
            found = _arguments_in(name, item) if isinstance(item, dict) else (False, None)
            if found[0]:
                return found
    return False, None


def _as_object(value: object) -> Mapping[str, Any] | None:
    """Return an object, also one that is written as a text of JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None
