"""What is wrong with a body, in the words of Go's encoding/json, which are those of Ollama's refusals. Pure.

Only what was refused is read here. Source: Go 1.24 `encoding/json` (`scanner.go`, `decode.go`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_BLANK: Final = re.compile(r"[ \t\r\n]*")
_LITERALS: Final = {"t": "true", "f": "false", "n": "null"}
_ESCAPES: Final = '"\\/bfnrtu'
_HEX: Final = "0123456789abcdefABCDEF"
_DIGITS: Final = "0123456789"
_LAST_CONTROL: Final = "\x1f"
_GO_QUOTES: Final = {"'": "\\'", '"': '"', "\a": r"\a", "\b": r"\b", "\f": r"\f", "\v": r"\v"}
_CLOSED: Final = {"}": "{", "]": "["}


class _WrongError(Exception):
    """The text is wrong at a place; the argument is the whole message."""


def syntax_error(text: str) -> str:
    """Return Go's message for the first mistake; a text without one ends too early."""
    try:
        _Scanner(text).read()
    except _WrongError as error:
        return str(error)
    return "unexpected EOF"


def mismatch(value: object, wanted: str, place: str = "") -> str:
    """Return Go's message for a JSON value of another type.

    Args:
        value: As Python read it.
        wanted: Go's name of the type: `string`, `api.ChatRequest`.
        place: The struct field `STRUCT.FIELD`; without one it is the whole body.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    got = f"number {value}" if number and wanted in ("int", "int32") else kind_of(value)
    into = f"Go struct field {place}" if place else "Go value"
    return f"json: cannot unmarshal {got} into {into} of type {wanted}"


def kind_of(value: object) -> str:
    """Return what Go calls a JSON value that does not fit."""
    match value:
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def go_type(value: object) -> str:
    """Return what Go prints for the type of a JSON value, for texts of errors."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "bool"
        case int() | float():
            return "float64"
        case str():
            return "string"
        case list():
            return "[]interface {}"
        case _:
            return "map[string]interface {}"


@dataclass(slots=True)
class _Scanner:
    """Reads one value."""

    text: str
    at: int = 0
    open: list[str] = field(default_factory=list)

    def read(self) -> None:
        self._value()
        while self.open:
            self._after_value()

    def _peek(self) -> str:
        """Return the next character that is no blank.

        Raises:
            _WrongError: the text is at its end.
        """
        match = _BLANK.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self._raw()

    def _raw(self) -> str:
        if self.at >= len(self.text):
            raise _WrongError("unexpected EOF")
        return self.text[self.at]

    def _take(self, wanted: str, context: str) -> str:
        """Return the next character and pass it.

        Raises:
            _WrongError: it is none of those wanted.
        """
        found = self._raw()
        if found not in wanted:
            raise _WrongError(f"invalid character {_quoted(found)} {context}")
        self.at += 1
        return found

    def _value(self) -> None:
        first = self._peek()
        if first in "{[":
            self.at += 1
            self._opened(first)
        elif first == '"':
            self._string()
        elif first in _LITERALS:
            self._literal(_LITERALS[first])
        elif first in "-" + _DIGITS:
            self._number()
        else:
            self._take("", "looking for beginning of value")

    def _opened(self, bracket: str) -> None:
        if self._peek() == ("}" if bracket == "{" else "]"):
            self.at += 1
            return
        self.open.append(bracket)
        if bracket == "{":
            self._key()
        self._value()

    def _key(self) -> None:
        if self._peek() != '"':
            self._take("", "looking for beginning of object key string")
        self._string()
        self._peek()
        self._take(":", "after object key")

    def _after_value(self) -> None:
        inside = self.open[-1]
        self._peek()
        place = "object key:value pair" if inside == "{" else "array element"
        found = self._take(",}" if inside == "{" else ",]", f"after {place}")
        if found in _CLOSED:
            self.open.pop()
            return
        if inside == "{":
            self._key()
        self._value()

    def _string(self) -> None:
        self.at += 1
        while (found := self._raw()) != '"':
            if found <= _LAST_CONTROL:
                self._take("", "in string literal")
            self.at += 1
            if found == "\\" and self._take(_ESCAPES, "in string escape code") == "u":
                for _ in range(4):
                    self._take(_HEX, "in \\u hexadecimal character escape")
        self.at += 1

    def _literal(self, word: str) -> None:
        for letter in word:
            self._take(letter, f"in literal {word} (expecting {_quoted(letter)})")

    def _number(self) -> None:
        if self._raw() == "-":
            self.at += 1
        if self._take(_DIGITS, "in numeric literal") != "0":
            self._digits()
        if self._next_is("."):
            self._take(_DIGITS, "after decimal point in numeric literal")
            self._digits()
        if self._next_is("eE"):
            self._next_is("+-")
            self._take(_DIGITS, "in exponent of numeric literal")
            self._digits()

    def _next_is(self, wanted: str) -> bool:
        """Pass the next character if it is one of those."""
        found = self.at < len(self.text) and self.text[self.at] in wanted
        self.at += found
        return found

    def _digits(self) -> None:
        while self._next_is(_DIGITS):
            pass


def _quoted(character: str) -> str:
    """Return a character as Go shows it: byte by byte, escaped where it cannot be printed."""
    first = chr(character.encode("utf-8", "replace")[0])
    if first in _GO_QUOTES:
        return f"'{_GO_QUOTES[first]}'"
    return f"'{first if first.isprintable() else repr(first)[1:-1]}'"
