"""What may stand inside of a request's fields: Go's types of nested values, and the check against them. Pure.

Ollama reads a whole body into Go's structs before it looks at any of it, so a value of another type is a 400
at any depth, and behind this check the rest of the engine may rely on the types. Keys match in any case, null
is as if absent, null in a list is an empty struct. What a struct does not know stays: templates may.

Source: Ollama 0.24 `api/types.go`, `openai/openai.go`, `openai/responses.go`, `anthropic/anthropic.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, Final

from supervisor.contract.go_json import mismatch
from supervisor.engines.embedded.failures import BAD_REQUEST, ApiError
from supervisor.engines.embedded.structs import ELEMENTS, TYPES, Kind, fits

NO_OBJECT: Final = "Value looks like object, but can't find closing '}' symbol"
"""What Ollama's ordered maps say to anything else."""


class Own(Enum):
    """Types that read themselves."""

    ARGUMENTS = auto()
    """Any object."""
    PROPERTIES = auto()
    """An object whose values describe a tool's parameters."""
    ALTERNATIVES = auto()
    """A list of such descriptions."""
    WORDS = auto()
    """A text or a list of them."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A struct."""

    go: str
    fields: Mapping[str, Inner]

    @property
    def name(self) -> str:
        """As errors have it; a struct without a name has none there."""
        return "" if self.go.startswith("struct") else self.go.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of structs."""

    of: Shape
    blind: bool = False
    """The structs read themselves, so errors inside name what is around them."""


Inner = Kind | Own | Shape | ListOf


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands."""

    struct: str = ""
    path: str = ""
    blind: bool = False

    @property
    def text(self) -> str:
        """As errors have it."""
        return f"{self.struct}.{self.path}" if self.path else ""

    def inside(self, shape: Shape, field: str) -> Place:
        """Return the place of a field."""
        path = f"{self.path}.{field}" if self.path else field
        return replace(self, struct=self.struct if self.blind else shape.name, path=path)


def checked(value: Any, inner: Inner, place: Place) -> Any:  # noqa: ANN401 -- any JSON
    """Return a value that is not null as its type has it.

    Raises:
        ApiError: 400 with Go's text, it or something in it has another type.
    """
    match inner:
        case Kind():
            return _plain(value, inner, place)
        case Shape():
            return _struct(value, inner, place)
        case ListOf(of, blind):
            items = _list(value, f"[]{of.go}", place)
            within = replace(place, blind=place.blind or blind)
            return [_struct({} if item is None else item, of, within) for item in items]
        case Own.ALTERNATIVES:
            return checked(value, ListOf(_PROPERTY), place)
        case Own.WORDS:
            return value if isinstance(value, str) else _plain(value, Kind.TEXTS, place)
        case Own.ARGUMENTS | Own.PROPERTIES:
            return _map(value, inner, place)


def tool_parameters(value: object, refusal: str) -> dict[str, Any]:
    """Return a tool's parameters where an API has them as any JSON; null is none.

    Raises:
        ApiError: 400, `refusal` and Go's text, something in them has another type.
    """
    try:
        described: dict[str, Any] = checked({} if value is None else value, PARAMETERS, Place())
    except ApiError as error:
        raise ApiError(BAD_REQUEST, f"{refusal}: {error.text}") from error
    return described


def _plain(value: Any, kind: Kind, place: Place) -> Any:  # noqa: ANN401 -- any JSON
    if not fits(value, TYPES[kind]):
        raise _wrong(value, kind.value, place)
    element, name = ELEMENTS.get(kind, (object, ""))
    for item in value if kind in ELEMENTS else ():
        if item is not None and not fits(item, (element,)):
            raise _wrong(item, name, place)
    return value


def _struct(value: Any, shape: Shape, place: Place) -> dict[str, Any]:  # noqa: ANN401 -- any JSON
    if not isinstance(value, dict):
        raise _wrong(value, shape.go, place)
    known = {name.lower(): name for name in shape.fields}
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = known.get(key.lower(), "")
        if not name:
            found[key] = item
        elif shape.fields[name] is Kind.ANY:
            found[name] = item
        elif item is not None:
            found[name] = checked(item, shape.fields[name], place.inside(shape, name))
    return found


def _list(value: Any, go: str, place: Place) -> list[Any]:  # noqa: ANN401 -- any JSON
    if not isinstance(value, list):
        raise _wrong(value, go, place)
    return value


def _map(value: Any, own: Own, place: Place) -> dict[str, Any]:  # noqa: ANN401 -- any JSON
    if not isinstance(value, dict):
        raise ApiError(BAD_REQUEST, NO_OBJECT)
    if own is Own.ARGUMENTS:
        return value
    within = replace(place, blind=True)
    return {name: _struct({} if item is None else item, _PROPERTY, within) for name, item in value.items()}


def _wrong(value: object, go: str, place: Place) -> ApiError:
    return ApiError(BAD_REQUEST, mismatch(value, go, place.text))


def _texts(*names: str) -> dict[str, Inner]:
    return dict.fromkeys(names, Kind.TEXT)


# Tools ----------------------------------------------------------------------------------

_PROPERTY: Final = Shape(
    "api.ToolProperty",
    {
        "anyOf": Own.ALTERNATIVES,
        "type": Own.WORDS,
        "items": Kind.ANY,
        "description": Kind.TEXT,
        "enum": Kind.LIST,
        "properties": Own.PROPERTIES,
        "required": Kind.TEXTS,
    },
)
PARAMETERS: Final = Shape(
    "api.ToolFunctionParameters",
    {
        "type": Kind.TEXT,
        "$defs": Kind.ANY,
        "items": Kind.ANY,
        "required": Kind.TEXTS,
        "properties": Own.PROPERTIES,
    },
)
_FUNCTION: Final = Shape("api.ToolFunction", _texts("name", "description") | {"parameters": PARAMETERS})
_TOOL: Final = Shape("api.Tool", {"type": Kind.TEXT, "items": Kind.ANY, "function": _FUNCTION})
_CALL: Final = Shape(
    "api.ToolCall",
    {
        "id": Kind.TEXT,
        "function": Shape(
            "api.ToolCallFunction", {"index": Kind.INT, "name": Kind.TEXT, "arguments": Own.ARGUMENTS}
        ),
    },
)

# OpenAI ---------------------------------------------------------------------------------

_CALLED: Final = Shape(
    r'struct { Name string "json:\"name\""; Arguments string "json:\"arguments\"" }',
    _texts("name", "arguments"),
)
_OPENAI_CALL: Final = Shape(
    "openai.ToolCall", _texts("id", "type") | {"index": Kind.INT, "function": _CALLED}
)
_OPENAI_MESSAGE: Final = Shape(
    "openai.Message",
    _texts("role", "reasoning", "name", "tool_call_id")
    | {"content": Kind.ANY, "tool_calls": ListOf(_OPENAI_CALL)},
)
_JSON_SCHEMA: Final = Shape("openai.JsonSchema", {"schema": Kind.ANY})
_TEXT_FORMAT: Final = Shape(
    "openai.ResponsesTextFormat", _texts("type", "name") | {"schema": Kind.ANY, "strict": Kind.FLAG}
)
_RESPONSES_TOOL: Final = Shape(
    "openai.ResponsesTool",
    _texts("type", "name", "description") | {"strict": Kind.FLAG, "parameters": Kind.OBJECT},
)

# Items of the Responses API, which are read one by one

RESPONSES_ITEM: Final = Shape(
    r'struct { Type string "json:\"type\""; Role string "json:\"role\"" }', _texts("type", "role")
)
RESPONSES_CALL: Final = Shape(
    "openai.ResponsesFunctionCall", _texts("id", "call_id", "type", "name", "arguments")
)
RESPONSES_OUTPUT: Final = Shape("struct {}", _texts("call_id"))
RESPONSES_THOUGHTS: Final = Shape(
    "openai.ResponsesReasoningInput",
    _texts("id", "encrypted_content")
    | {"summary": ListOf(Shape("openai.ResponsesReasoningSummary", _texts("type", "text")))},
)
RESPONSES_PART: Final = Shape(r'struct { Type string "json:\"type\"" }', _texts("type"))
RESPONSES_TEXT_PART: Final = Shape("openai.ResponsesTextContent", _texts("text"))
RESPONSES_SAID_PART: Final = Shape("openai.ResponsesOutputTextContent", _texts("text"))
RESPONSES_IMAGE_PART: Final = Shape("openai.ResponsesImageContent", _texts("detail", "image_url"))

# Anthropic ------------------------------------------------------------------------------

BLOCK: Final = Shape(
    "anthropic.ContentBlock",
    _texts("type", "text", "id", "name", "tool_use_id", "thinking", "signature")
    | {
        "source": Shape("anthropic.ImageSource", _texts("type", "media_type", "data", "url")),
        "input": Own.ARGUMENTS,
        "content": Kind.ANY,
        "is_error": Kind.FLAG,
    },
)
BLOCK_PLACE: Final = Place("MessagesRequest", "messages", blind=True)
"""Messages read their blocks themselves, so that errors name the list of messages."""
_PARAM: Final = Shape(
    r'struct { Role string "json:\"role\""; Content json.RawMessage "json:\"content\"" }',
    {"role": Kind.TEXT, "content": Kind.ANY},
)
_ANTHROPIC_TOOL: Final = Shape(
    "anthropic.Tool",
    _texts("type", "name", "description") | {"input_schema": Kind.ANY, "max_uses": Kind.INT},
)

INSIDE: Final[Mapping[Kind, Inner]] = {
    **dict.fromkeys((Kind.TOOLS, Kind.OPENAI_TOOLS), ListOf(_TOOL)),
    Kind.CALLS: ListOf(_CALL),
    Kind.OPENAI_MESSAGES: ListOf(_OPENAI_MESSAGE),
    Kind.RESPONSE_FORMAT: Shape("openai.ResponseFormat", {"type": Kind.TEXT, "json_schema": _JSON_SCHEMA}),
    Kind.STREAM_OPTIONS: Shape("openai.StreamOptions", {"include_usage": Kind.FLAG}),
    Kind.REASONING: Shape("openai.Reasoning", _texts("effort")),
    Kind.RESPONSES_REASONING: Shape(
        "openai.ResponsesReasoning", _texts("effort", "generate_summary", "summary")
    ),
    Kind.RESPONSES_TEXT: Shape("openai.ResponsesText", {"format": _TEXT_FORMAT}),
    Kind.RESPONSES_TOOLS: ListOf(_RESPONSES_TOOL),
    Kind.ANTHROPIC_MESSAGES: ListOf(_PARAM, blind=True),
    Kind.ANTHROPIC_TOOLS: ListOf(_ANTHROPIC_TOOL),
    Kind.THINKING: Shape("anthropic.ThinkingConfig", {"type": Kind.TEXT, "budget_tokens": Kind.INT}),
    Kind.OUTPUT_CONFIG: Shape("anthropic.OutputConfig", _texts("effort")),
    Kind.TOOL_CHOICE: Shape(
        "anthropic.ToolChoice", _texts("type", "name") | {"disable_parallel_tool_use": Kind.FLAG}
    ),
    Kind.METADATA: Shape("anthropic.Metadata", _texts("user_id")),
}
"""What stands inside of fields that are no plain values."""
