"""Template text as tokens: literal text, and what stands between the braces. Pure.

Decides what `{{- ` and ` -}}` cut away and where a token ends; knows no grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_LEFT: Final = "{{"
_SPACES: Final = " \t\r\n"
_ACTION_START: Final = re.compile(r"\{\{(?P<trim>-[ \t\r\n])?")
_COMMENT: Final = re.compile(r"/\*.*?\*/(?P<trim>[ \t\r\n]-)?\}\}", re.DOTALL)
_ACTION_END: Final = re.compile(r"[ \t\r\n]*(?P<trim>[ \t\r\n]-)?\}\}")
_BLANK: Final = re.compile(r"[ \t\r\n]*")


class TemplateError(ValueError):
    """A template that cannot be read or rendered; the text names the construct."""


class Kind(StrEnum):
    """What a token is."""

    TEXT = "text"
    END = "}}"
    STRING = "string"
    RAW_STRING = "raw string"
    CHARACTER = "character"
    NUMBER = "number"
    FIELD = "field"
    VARIABLE = "variable"
    WORD = "word"
    SIGN = "sign"


@dataclass(frozen=True, slots=True)
class Token:
    """One token."""

    kind: Kind
    text: str
    """A field and a variable without their mark, the rest as written."""
    line: int
    spaced: bool = False
    """Blank space stands before it."""


_TOKENS: Final = (
    (Kind.STRING, re.compile(r'"(?:[^"\\\n]|\\.)*"')),
    (Kind.RAW_STRING, re.compile(r"`[^`]*`")),
    (Kind.CHARACTER, re.compile(r"'(?:[^'\\\n]|\\.[^'\n]*)'")),
    (Kind.NUMBER, re.compile(r"[+-]?(?:0[xX][0-9a-fA-F_]+|\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)(?!\w)")),
    (Kind.FIELD, re.compile(r"\.([^\W\d]\w*)")),
    (Kind.VARIABLE, re.compile(r"\$(\w*)")),
    (Kind.WORD, re.compile(r"[^\W\d]\w*")),
    (Kind.SIGN, re.compile(r":=|[=|(),.]")),
)


def tokens(source: str) -> Iterator[Token]:
    """Yield the tokens of a template; every action ends with an `END`.

    Raises:
        TemplateError: an action or a comment that is not closed, or a character that belongs nowhere.
    """
    at, trim_next = 0, False
    while at < len(source):
        left = source.find(_LEFT, at)
        stop = len(source) if left < 0 else left
        text = source[at:stop]
        opened = _ACTION_START.match(source, stop) if left >= 0 else None
        if trim_next:
            text = text.lstrip(_SPACES)
        if opened is not None and opened["trim"]:
            text = text.rstrip(_SPACES)
        if text:
            yield Token(Kind.TEXT, text, _line(source, at))
        if opened is None:
            return
        action = _Action(source, opened.end())
        yield from action.tokens()
        at, trim_next = action.at, action.trims


@dataclass(slots=True)
class _Action:
    """The inside of one pair of braces."""

    source: str
    at: int
    trims: bool = False

    def tokens(self) -> Iterator[Token]:
        comment = _COMMENT.match(self.source, self.at)
        if comment is not None:
            self._close(comment)
            return
        closed = _ACTION_END.match(self.source, self.at)
        while closed is None:
            yield self._next()
            closed = _ACTION_END.match(self.source, self.at)
        yield Token(Kind.END, "}}", _line(self.source, self.at))
        self._close(closed)

    def _next(self) -> Token:
        blank = _BLANK.match(self.source, self.at)
        assert blank is not None  # it matches nothing too
        line, at = _line(self.source, blank.end()), blank.end()
        for kind, form in _TOKENS:
            if found := form.match(self.source, at):
                self.at = found.end()
                return Token(kind, found[found.lastindex or 0], line, spaced=bool(blank[0]))
        if at >= len(self.source):
            raise TemplateError(f"line {line}: unclosed action")
        raise TemplateError(f"line {line}: unexpected {self.source[at]!r} in action")

    def _close(self, found: re.Match[str]) -> None:
        self.at, self.trims = found.end(), found["trim"] is not None


def _line(source: str, at: int) -> int:
    return source.count("\n", 0, at) + 1
