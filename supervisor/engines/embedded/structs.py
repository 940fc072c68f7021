"""The requests of all surfaces: Ollama's Go names for them, their fields and the fields' types. Pure.

Source: Ollama 0.24 `api/types.go`, `openai/openai.go`, `openai/responses.go`, `anthropic/anthropic.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """Types of fields, under Go's names for them."""

    TEXT = "string"
    FLAG = "bool"
    INT = "int"
    INT32 = "int32"
    FLOAT = "float64"
    FLOAT32 = "float32"
    OBJECT = "map[string]interface {}"
    FILES = "map[string]string"
    INTS = "[]int"
    TEXTS = "[]string"
    LIST = "[]interface {}"
    MESSAGES = "[]api.Message"
    IMAGES = "[]api.ImageData"
    TOOLS = "api.Tools"
    OPENAI_TOOLS = "[]api.Tool"
    CALLS = "[]api.ToolCall"
    ANY = "interface {}"
    OPENAI_MESSAGES = "[]openai.Message"
    RESPONSE_FORMAT = "openai.ResponseFormat"
    STREAM_OPTIONS = "openai.StreamOptions"
    REASONING = "openai.Reasoning"
    RESPONSES_REASONING = "openai.ResponsesReasoning"
    RESPONSES_TEXT = "openai.ResponsesText"
    RESPONSES_TOOLS = "[]openai.ResponsesTool"
    ANTHROPIC_MESSAGES = "[]anthropic.MessageParam"
    ANTHROPIC_TOOLS = "[]anthropic.Tool"
    THINKING = "anthropic.ThinkingConfig"
    OUTPUT_CONFIG = "anthropic.OutputConfig"
    TOOL_CHOICE = "anthropic.ToolChoice"
    METADATA = "anthropic.Metadata"


TYPES: Final[Mapping[Kind, tuple[type, ...]]] = {
    Kind.TEXT: (str,),
    Kind.FLAG: (bool,),
    Kind.INT: (int,),
    Kind.INT32: (int,),
    Kind.FLOAT: (int, float),
    Kind.FLOAT32: (int, float),
    Kind.ANY: (object,),
    **dict.fromkeys(
        (
            Kind.OBJECT,
            Kind.FILES,
            Kind.RESPONSE_FORMAT,
            Kind.STREAM_OPTIONS,
            Kind.REASONING,
            Kind.RESPONSES_REASONING,
            Kind.RESPONSES_TEXT,
            Kind.THINKING,
            Kind.OUTPUT_CONFIG,
            Kind.TOOL_CHOICE,
            Kind.METADATA,
        ),
        (dict,),
    ),
    **dict.fromkeys(
        (
            Kind.INTS,
            Kind.TEXTS,
            Kind.LIST,
            Kind.MESSAGES,
            Kind.IMAGES,
            Kind.TOOLS,
            Kind.OPENAI_TOOLS,
            Kind.CALLS,
            Kind.OPENAI_MESSAGES,
            Kind.RESPONSES_TOOLS,
            Kind.ANTHROPIC_MESSAGES,
            Kind.ANTHROPIC_TOOLS,
        ),
        (list,),
    ),
}
ELEMENTS: Final[Mapping[Kind, tuple[type, str]]] = {
    Kind.INTS: (int, "int"),
    Kind.TEXTS: (str, "string"),
    Kind.IMAGES: (str, "api.ImageData"),
    Kind.TOOLS: (dict, "api.Tool"),
    Kind.OPENAI_TOOLS: (dict, "api.Tool"),
    Kind.FILES: (str, "string"),
    Kind.CALLS: (dict, "api.ToolCall"),
    Kind.MESSAGES: (dict, "api.Alias"),
    Kind.OPENAI_MESSAGES: (dict, "openai.Message"),
    Kind.RESPONSES_TOOLS: (dict, "openai.ResponsesTool"),
    Kind.ANTHROPIC_MESSAGES: (
        dict,
        r'struct { Role string "json:\"role\""; Content json.RawMessage "json:\"content\"" }',
    ),
    Kind.ANTHROPIC_TOOLS: (dict, "anthropic.Tool"),
}
"""What lists hold: its type here, and its name in Go."""
_INT_BITS: Final = 63


def fits(value: object, types: tuple[type, ...]) -> bool:
    """Return whether a JSON value is of one of the types: true is no number, and numbers have 64 bits."""
    if isinstance(value, bool) and int in types:
        return False
    if types == (int,) and isinstance(value, int):
        return value.bit_length() <= _INT_BITS
    return isinstance(value, types)


@dataclass(frozen=True, slots=True)
class Struct:
    """One request type: its Go name and its fields."""

    name: str
    fields: Mapping[str, Kind]
    package: str = "api"
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
GENERATE: Final = Struct(
    "GenerateRequest",
    _RUNTIME
    | _ANSWER
    | dict.fromkeys(("prompt", "suffix", "system", "template"), Kind.TEXT)
    | {"context": Kind.INTS, "raw": Kind.FLAG, "images": Kind.IMAGES}
    | dict.fromkeys(("width", "height", "steps"), Kind.INT32),
)
CHAT: Final = Struct("ChatRequest", _RUNTIME | _ANSWER | {"messages": Kind.MESSAGES, "tools": Kind.TOOLS})
EMBED: Final = Struct("EmbedRequest", _RUNTIME | {"input": Kind.ANY, "dimensions": Kind.INT})
EMBEDDINGS: Final = Struct("EmbeddingRequest", _RUNTIME | {"prompt": Kind.TEXT})
SHOW: Final = Struct(
    "ShowRequest",
    dict.fromkeys(("model", "name", "system", "template"), Kind.TEXT)
    | {"verbose": Kind.FLAG, "options": Kind.OBJECT},
)
MESSAGE: Final = Struct(
    "ChatRequest.messages",
    {
        "role": Kind.TEXT,
        "content": Kind.TEXT,
        "thinking": Kind.TEXT,
        "images": Kind.IMAGES,
        "tool_calls": Kind.CALLS,
        "tool_name": Kind.TEXT,
        "tool_call_id": Kind.TEXT,
    },
)


def _middleware(name: str, fields: Mapping[str, Kind], package: str = "openai") -> Struct:
    return Struct(name, fields, package, no_body="EOF")


_OPENAI: Final = {
    "model": Kind.TEXT,
    "stream": Kind.FLAG,
    "stream_options": Kind.STREAM_OPTIONS,
    "max_tokens": Kind.INT,
    "seed": Kind.INT,
    "stop": Kind.ANY,
    "temperature": Kind.FLOAT,
    "frequency_penalty": Kind.FLOAT,
    "presence_penalty": Kind.FLOAT,
    "top_p": Kind.FLOAT,
    "_debug_render_only": Kind.FLAG,
}
OPENAI_CHAT: Final = _middleware(
    "ChatCompletionRequest",
    _OPENAI
    | {
        "messages": Kind.OPENAI_MESSAGES,
        "response_format": Kind.RESPONSE_FORMAT,
        "tools": Kind.OPENAI_TOOLS,
        "reasoning": Kind.REASONING,
        "reasoning_effort": Kind.TEXT,
        "logprobs": Kind.FLAG,
        "top_logprobs": Kind.INT,
    },
)
OPENAI_COMPLETION: Final = _middleware(
    "CompletionRequest",
    _OPENAI
    | {"prompt": Kind.TEXT, "suffix": Kind.TEXT, "logprobs": Kind.INT}
    | dict.fromkeys(("temperature", "frequency_penalty", "presence_penalty", "top_p"), Kind.FLOAT32),
)
OPENAI_EMBED: Final = _middleware(
    "EmbedRequest",
    {"model": Kind.TEXT, "input": Kind.ANY, "dimensions": Kind.INT, "encoding_format": Kind.TEXT},
)
RESPONSES: Final = _middleware(
    "ResponsesRequest",
    {
        "model": Kind.TEXT,
        "stream": Kind.FLAG,
        "background": Kind.FLAG,
        "input": Kind.ANY,
        "instructions": Kind.TEXT,
        "max_output_tokens": Kind.INT,
        "reasoning": Kind.RESPONSES_REASONING,
        "temperature": Kind.FLOAT,
        "text": Kind.RESPONSES_TEXT,
        "top_p": Kind.FLOAT,
        "truncation": Kind.TEXT,
        "tools": Kind.RESPONSES_TOOLS,
        "include": Kind.TEXTS,
    },
)
MESSAGES: Final = _middleware(
    "MessagesRequest",
    {
        "model": Kind.TEXT,
        "stream": Kind.FLAG,
        "max_tokens": Kind.INT,
        "messages": Kind.ANTHROPIC_MESSAGES,
        "system": Kind.ANY,
        "temperature": Kind.FLOAT,
        "top_p": Kind.FLOAT,
        "top_k": Kind.INT,
        "stop_sequences": Kind.TEXTS,
        "tools": Kind.ANTHROPIC_TOOLS,
        "thinking": Kind.THINKING,
        "output_config": Kind.OUTPUT_CONFIG,
        "tool_choice": Kind.TOOL_CHOICE,
        "metadata": Kind.METADATA,
    },
    package="anthropic",
)
RERANK: Final = _middleware(
    "RerankRequest",
    {
        "model": Kind.TEXT,
        "query": Kind.TEXT,
        "documents": Kind.LIST,
        "texts": Kind.LIST,
        "top_n": Kind.INT,
        "return_documents": Kind.FLAG,
        "return_text": Kind.FLAG,
    },
)
