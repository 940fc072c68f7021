"""The functions that templates call: Go's own ones, as far as prompt templates use them. Pure.

`and` and `or` are not here: they stop at the first argument that decides (see `evaluate.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

from supervisor.models.gotemplate.lexer import TemplateError
from supervisor.models.gotemplate.values import Struct, Value, is_true, printed, to_json

Functions = Mapping[str, Callable[..., Value]]

_VERB: Final = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width>\d*)(?:\.(?P<precision>\d+))?(?P<verb>.)", re.DOTALL
)
_CONTROL: Final = re.compile(r"[^\n\t\r\x08\f -~\xa1-\uffff]")
"""What Go quotes in another way than JSON."""
_BASIC: Final = (bool, int, float, str)


def _equal(first: Value, *others: Value) -> bool:
    if not others:
        raise TemplateError("eq: missing argument for comparison")
    return any(_equal_two(first, other) for other in others)


def _equal_two(left: Value, right: Value) -> bool:
    if left is None or right is None:
        return left is right
    _check_basic("eq", left, right)
    if type(left) is not type(right):
        raise TemplateError(f"eq: incompatible types for comparison: {printed(left)} and {printed(right)}")
    return bool(left == right)


def _check_basic(name: str, *values: Value) -> None:
    for value in values:
        if not isinstance(value, _BASIC):
            raise TemplateError(f"{name}: non-comparable type {type(value).__name__}")


def _not_equal(left: Value, right: Value) -> bool:
    return not _equal_two(left, right)


def _less(left: Value, right: Value) -> bool:
    _check_basic("lt", left, right)
    if type(left) is not type(right) or isinstance(left, bool):
        raise TemplateError(f"lt: incompatible types for comparison: {printed(left)} and {printed(right)}")
    return bool(left < right)


def _less_or_equal(left: Value, right: Value) -> bool:
    return _less(left, right) or _equal_two(left, right)


def _length(value: Value) -> int:
    """Go counts the bytes of a text."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, (list, tuple, Mapping)):
        return len(value)
    raise TemplateError(f"len of {printed(value)}")


def _index(value: Value, *keys: Value) -> Value:
    for key in keys:
        value = _item(value, key)
    return value


def _item(value: Value, key: Value) -> Value:
    if isinstance(value, Mapping):
        return value.get(key)
    items = value.encode() if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, bytes)):
        raise TemplateError(f"index of {printed(value)}")
    if not isinstance(key, int) or isinstance(key, bool) or not 0 <= key < len(items):
        raise TemplateError(f"index out of range: {printed(key)}")
    return items[key]


def _slice(value: Value, *bounds: Value) -> Value:
    items = value.encode() if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, bytes)):
        raise TemplateError(f"slice of {printed(value)}")
    first, last = [*bounds, *(0, len(items))[len(bounds) :]][:2]
    whole = all(isinstance(bound, int) and not isinstance(bound, bool) for bound in (first, last))
    if len(bounds) > 2 or not whole or not 0 <= first <= last <= len(items):  # noqa: PLR2004 -- two bounds
        raise TemplateError(f"slice: bounds {' '.join(map(printed, bounds))} out of range")
    piece = items[first:last]
    return piece.decode("utf-8", "replace") if isinstance(piece, bytes) else piece


def _printf(form: str, *args: Value) -> str:
    left = list(args)

    def replaced(found: re.Match[str]) -> str:
        if found["verb"] == "%":
            return "%"
        if not left:
            raise TemplateError(f"printf: missing argument for {found[0]}")
        return _formatted(found, left.pop(0))

    text = _VERB.sub(replaced, form)
    if left:
        raise TemplateError(f"printf: too many arguments for {form!r}")
    return text


def _formatted(found: re.Match[str], value: Value) -> str:
    text = _bare(found, value)
    width = int(found["width"] or 0)
    if "-" in found["flags"]:
        return text.ljust(width)
    return (
        text.zfill(width) if "0" in found["flags"] and isinstance(value, (int, float)) else text.rjust(width)
    )


def _bare(found: re.Match[str], value: Value) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match found["verb"]:
        case "v":
            return "<nil>" if value is None else printed(value)
        case "s" if not number and not isinstance(value, bool) and value is not None:
            return _cut(printed(value), found["precision"])
        case "d" if number and isinstance(value, int):
            return str(value)
        case "f" if isinstance(value, float):
            return f"{value:.{found['precision'] or 6}f}"
        case "t" if isinstance(value, bool):
            return printed(value)
        case "q" if isinstance(value, str) and not _CONTROL.search(value):
            return json.dumps(value, ensure_ascii=False)
    raise TemplateError(f"printf: {found[0]} of {printed(value)} is not supported")


def _cut(text: str, precision: str | None) -> str:
    return text if precision is None else text[: int(precision)]


def _print(*args: Value) -> str:
    """Go puts a space between two operands when neither is a text."""
    text = ""
    for number, arg in enumerate(args):
        spaced = number and not isinstance(arg, str) and not isinstance(args[number - 1], str)
        text += (" " if spaced else "") + ("<nil>" if arg is None else printed(arg))
    return text


def _println(*args: Value) -> str:
    return " ".join("<nil>" if arg is None else printed(arg) for arg in args) + "\n"


BUILTINS: Final[Functions] = {
    "eq": _equal,
    "ne": _not_equal,
    "lt": _less,
    "le": _less_or_equal,
    "gt": lambda left, right: not _less_or_equal(left, right),
    "ge": lambda left, right: not _less(left, right),
    "not": lambda value: not is_true(value),
    "len": _length,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "printf": _printf,
    "println": _println,
}


def prompt_functions(today: str, yesterday: str) -> Functions:
    """Return Go's functions and the four that Ollama adds; dates are `YYYY-MM-DD`."""
    return {
        **BUILTINS,
        "json": to_json,
        "currentDate": lambda *_: today,
        "yesterdayDate": lambda *_: yesterday,
        "toTypeScriptType": _typescript,
    }


_TYPESCRIPT: Final = {
    "string": "string", "number": "number", "integer": "number", "boolean": "boolean", "array": "any[]",
    "object": "Record<string, any>", "null": "null",
}  # fmt: skip


def _typescript(value: Value) -> str:
    if not isinstance(value, Struct) or value.type_name != "api.ToolProperty":
        return "any"
    members = {member.name: member.value for member in value.members}
    if members["AnyOf"]:
        return " | ".join(_typescript(item) for item in members["AnyOf"])
    return " | ".join(_TYPESCRIPT.get(name, "any") for name in members["Type"]) or "any"


NAMES: Final = frozenset({*prompt_functions("", ""), "and", "or"})
"""What a prompt template may call."""
