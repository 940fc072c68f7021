"""Modelfiles as `corral create` reads them: what a new model is made of.

Decides what each instruction means, as Ollama's own command does: it is the command that reads the file, the
server gets fields. Where files lie is for whoever reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

_INTEGERS: Final = frozenset(
    {
        "num_keep",
        "seed",
        "num_predict",
        "top_k",
        "repeat_last_n",
        "num_ctx",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "num_thread",
        "draft_num_predict",
    }
)
_NUMBERS: Final = frozenset(
    {
        "top_p",
        "min_p",
        "typical_p",
        "temperature",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
    }
)
_FLAGS: Final = frozenset({"use_mmap", "shift"})
_LISTS: Final = frozenset({"stop"})
_TEXTS: Final = {
    "template": "template",
    "system": "system",
    "renderer": "renderer",
    "parser": "parser",
    "requires": "requires",
}
"""Instructions whose value is a field of the request as it is."""
_ROLES: Final = ("system", "user", "assistant")
_WORD: Final = re.compile(r"\s*(\S+)[ \t]*")
_QUOTES: Final = '"""'


class ModelfileError(ValueError):
    """A line that says nothing usable; the text names it."""


@dataclass(slots=True)
class Modelfile:
    """What a Modelfile says."""

    sources: list[str] = field(default_factory=list)
    """Of FROM, in order: names of models or paths."""
    adapters: list[str] = field(default_factory=list)
    """Paths."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Of the request, by their names there."""


def parse_modelfile(text: str) -> Modelfile:
    """Return what a Modelfile says.

    Raises:
        ModelfileError: an unknown instruction or parameter, a value of the wrong type, or no FROM.
    """
    parsed = Modelfile()
    for number, instruction, value in _instructions(text):
        try:
            _take(parsed, instruction.lower(), value)
        except ModelfileError as error:
            raise ModelfileError(f"line {number}: {error}") from error
    if not parsed.sources:
        raise ModelfileError("no FROM line")
    return parsed


def _instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, instruction and value; a value in triple quotes may have many lines."""
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _WORD.match(line)
        assert found is not None, "the line is not blank"
        value = line[found.end() :].rstrip()
        head, opened, rest = value.partition(_QUOTES)
        if not opened:
            yield number, found[1], _unquoted(value)
            continue
        parts = [rest]
        while _QUOTES not in parts[-1]:
            following = next(lines, None)
            if following is None:
                raise ModelfileError(f"line {number}: the text in triple quotes has no end")
            parts.append(following[1])
        parts[-1] = parts[-1].partition(_QUOTES)[0]
        yield number, found[1], head + "\n".join(parts)


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value.startswith('"') and value.endswith('"')
    return value[1:-1] if quoted else value


def _take(parsed: Modelfile, instruction: str, value: str) -> None:
    match instruction:
        case "from":
            parsed.sources.append(_needed(instruction, value))
        case "adapter":
            parsed.adapters.append(_needed(instruction, value))
        case "license":
            parsed.fields.setdefault("license", []).append(value)
        case "parameter":
            _take_parameter(parsed.fields.setdefault("parameters", {}), value)
        case "message":
            parsed.fields.setdefault("messages", []).append(_message(value))
        case _ if instruction in _TEXTS:
            parsed.fields[_TEXTS[instruction]] = value
        case _:
            raise ModelfileError(f"unknown instruction {instruction.upper()}")


def _needed(instruction: str, value: str) -> str:
    if not value:
        raise ModelfileError(f"{instruction.upper()} needs a value")
    return value


def _take_parameter(parameters: dict[str, Any], text: str) -> None:
    name, _, rest = text.partition(" ")
    value = _unquoted(rest.strip())
    if name in _LISTS:
        parameters.setdefault(name, []).append(value)
    else:
        parameters[name] = _parameter(name, value)


def _parameter(name: str, value: str) -> int | float | bool:
    try:
        if name in _INTEGERS:
            return int(value)
        if name in _NUMBERS:
            return float(value)
    except ValueError as error:
        raise ModelfileError(f"PARAMETER {name} must be a number, not {value!r}") from error
    if name not in _FLAGS:
        raise ModelfileError(f"unknown parameter {name!r}")
    if value.lower() not in {"true", "false"}:
        raise ModelfileError(f"PARAMETER {name} must be true or false, not {value!r}")
    return value.lower() == "true"


def _message(text: str) -> dict[str, str]:
    role, _, content = text.partition(" ")
    if role not in _ROLES:
        raise ModelfileError(f"MESSAGE needs a role (one of {', '.join(_ROLES)}) and a text")
    return {"role": role, "content": _unquoted(content.strip())}
