"""Request bodies as Go's encoding/json reads them, with its error texts. Pure.

Ollama's leniency is part of its API: keys match in any case, unknown keys and trailing data are
ignored, the last of two equal keys wins, null is as if absent, and no Content-Type is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from supervisor.engines.embedded.failures import BAD_REQUEST, ApiError


class Kind(StrEnum):
    """Types of fields, under Go's names for them."""

    TEXT = "string"
    FLAG = "bool"
    INT = "int"
    FLOAT = "float64"
    OBJECT = "map[string]interface {}"
    INTS = "[]int"
    LIST = "[]interface {}"
    MESSAGES = "[]api.Message"
    ANY = "interface {}"


_TYPES: Final[Mapping[Kind, tuple[type, ...]]] = {
    Kind.TEXT: (str,),
    Kind.FLAG: (bool,),
    Kind.INT: (int,),
    Kind.FLOAT: (int, float),
    Kind.OBJECT: (dict,),
    Kind.LIST: (list,),
    Kind.MESSAGES: (list,),
}


@dataclass(frozen=True, slots=True)
class Struct:
    """One request type: its Go name and its fields."""

    name: str
    fields: Mapping[str, Kind]
    no_body: str = "missing request body"
    """What is said to a request without a body."""


_RUNTIME: Final = {"model": Kind.TEXT, "options": Kind.OBJECT, "keep_alive": Kind.ANY, "truncate": Kind.FLAG}
_ANSWER: Final = {
    "stream": Kind.FLAG,
    "format": Kind.ANY,
    "think": Kind.ANY,
    "shift": Kind.FLAG,
    "logprobs": Kind.FLAG,
    "top_logprobs": Kind.INT,
    "_debug_render_only": Kind.FLAG,
}
_OPENAI: Final = {
    "model": Kind.TEXT,
    "stream": Kind.FLAG,
    "stream_options": Kind.OBJECT,
    "max_tokens": Kind.INT,
    "seed": Kind.INT,
    "stop": Kind.ANY,
    "temperature": Kind.FLOAT,
    "frequency_penalty": Kind.FLOAT,
    "presence_penalty": Kind.FLOAT,
    "top_p": Kind.FLOAT,
}
GENERATE: Final = Struct(
    "GenerateRequest",
    _RUNTIME
    | _ANSWER
    | dict.fromkeys(("prompt", "suffix", "system", "template"), Kind.TEXT)
    | {"context": Kind.INTS, "raw": Kind.FLAG, "images": Kind.LIST},
)
CHAT: Final = Struct("ChatRequest", _RUNTIME | _ANSWER | {"messages": Kind.MESSAGES, "tools": Kind.LIST})
EMBED: Final = Struct("EmbedRequest", _RUNTIME | {"input": Kind.ANY, "dimensions": Kind.INT})
EMBEDDINGS: Final = Struct("EmbeddingRequest", _RUNTIME | {"prompt": Kind.TEXT})
SHOW: Final = Struct("ShowRequest", {"model": Kind.TEXT, "name": Kind.TEXT, "verbose": Kind.FLAG})
OPENAI_CHAT: Final = Struct(
    "ChatCompletionRequest",
    _OPENAI
    | {
        "messages": Kind.LIST,
        "response_format": Kind.OBJECT,
        "tools": Kind.LIST,
        "reasoning": Kind.OBJECT,
        "reasoning_effort": Kind.TEXT,
        "logprobs": Kind.FLAG,
        "top_logprobs": Kind.INT,
    },
    no_body="EOF",
)
OPENAI_COMPLETION: Final = Struct(
    "CompletionRequest",
    _OPENAI | {"prompt": Kind.TEXT, "suffix": Kind.TEXT, "logprobs": Kind.INT},
    no_body="EOF",
)
OPENAI_EMBED: Final = Struct(
    "EmbedRequest",
    {"model": Kind.TEXT, "input": Kind.ANY, "dimensions": Kind.INT, "encoding_format": Kind.TEXT},
    no_body="EOF",
)
MESSAGE: Final = Struct(
    "ChatRequest.messages",
    {
        "role": Kind.TEXT,
        "content": Kind.TEXT,
        "thinking": Kind.TEXT,
        "images": Kind.LIST,
        "tool_calls": Kind.LIST,
        "tool_name": Kind.TEXT,
        "tool_call_id": Kind.TEXT,
    },
)


def decode(raw: bytes, struct: Struct) -> dict[str, Any]:
    """Return the known fields of a body, under their own names; what is null is missing.

    Raises:
        ApiError: 400 with Go's text: no body, no JSON, or a field of another type.
    """
    text = raw.decode("utf-8", "replace").lstrip()
    if not text:
        raise ApiError(BAD_REQUEST, struct.no_body)
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        raise ApiError(BAD_REQUEST, _syntax_error(text, error)) from error
    except RecursionError as error:
        raise ApiError(BAD_REQUEST, "exceeded max depth") from error
    if not isinstance(value, dict):
        kind = _kind_of(value)
        raise ApiError(BAD_REQUEST, f"json: cannot unmarshal {kind} into Go value of type api.{struct.name}")
    return fields_of(value, struct)


def fields_of(value: Mapping[str, Any], struct: Struct) -> dict[str, Any]:
    """Return the fields of `struct` in an object, checked.

    Raises:
        ApiError: 400, a field has another type.
    """
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = key.lower()
        kind = struct.fields.get(name)
        if kind is not None and item is not None:
            found[name] = _checked(item, kind, f"{struct.name}.{name}")
    return found


def _checked(value: Any, kind: Kind, path: str) -> Any:  # noqa: ANN401 -- any JSON
    if not _fits(value, kind):
        got = f"number {value}" if kind is Kind.INT and isinstance(value, float) else _kind_of(value)
        text = f"json: cannot unmarshal {got} into Go struct field {path} of type {kind.value}"
        raise ApiError(BAD_REQUEST, text)
    if kind is Kind.MESSAGES:
        return [fields_of(_object(m, path), MESSAGE) for m in value]
    return value


def _object(value: Any, path: str) -> Mapping[str, Any]:  # noqa: ANN401 -- any JSON
    if isinstance(value, dict):
        return value
    text = f"json: cannot unmarshal {_kind_of(value)} into Go struct field {path} of type api.Message"
    raise ApiError(BAD_REQUEST, text)


def _fits(value: Any, kind: Kind) -> bool:  # noqa: ANN401 -- any JSON
    if kind is Kind.ANY:
        return True
    if kind is Kind.INTS:
        return isinstance(value, list) and all(_fits(item, Kind.INT) for item in value)
    flag_for_number = isinstance(value, bool) and kind is not Kind.FLAG
    return isinstance(value, _TYPES[kind]) and not flag_for_number


def _kind_of(value: object) -> str:
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


def _syntax_error(text: str, error: json.JSONDecodeError) -> str:
    rest = text[error.pos :].lstrip()
    if not rest or error.msg.startswith("Unterminated"):
        return "unexpected EOF"
    return f"invalid character {_quoted(rest[0])} looking for beginning of value"


def _quoted(character: str) -> str:
    return "'\\''" if character == "'" else f"'{character}'"


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
