"""Bodies in which one value, at any depth, is not what it should be. Pure.

Each surface has a body that uses much of its API; `odd_bodies` puts each value of `ODD` in each place of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

_PNG: Final = "data:image/png;base64,aGk="
_SCHEMA: Final = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
_PARAMETERS: Final = {
    "type": "object",
    "properties": {
        "a": {"type": ["integer", "null"], "description": "d", "enum": [1], "anyOf": [{"type": "string"}]},
        "b": {"type": "object", "properties": {"c": {"type": "string"}}, "required": ["c"], "items": {}},
    },
    "required": ["a"],
    "$defs": {"x": {}},
}
_TOOL: Final = {
    "type": "function",
    "function": {"name": "add", "description": "adds", "parameters": _PARAMETERS},
}
ODD: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 1.5, 2**70, 1e300, "", "x", "\ud800"),
    *([], {}, ["x"], [1], [None], [[]], [{}], {"a": 1}, {"type": "x"}, [{"type": None}], [{"type": "text"}]),
)

CHAT: Final = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "hello", "images": ["aGk="]},
        {
            "role": "assistant",
            "content": "c",
            "thinking": "t",
            "tool_calls": [
                {"id": "c", "function": {"index": 0, "name": "add", "arguments": {"a": {"b": [1]}}}}
            ],
        },
        {"role": "tool", "content": "5", "tool_name": "add", "tool_call_id": "c"},
    ],
    "tools": [_TOOL],
    "format": _SCHEMA,
    "think": False,
    "options": {"temperature": 0, "stop": ["a"], "seed": 1, "num_ctx": 64},
    "keep_alive": "5m",
    "stream": True,
    "logprobs": True,
    "top_logprobs": 1,
}
GENERATE: Final = {
    "model": "m",
    "prompt": "x",
    "suffix": "",
    "system": "s",
    "template": "{{ .Prompt }}",
    "context": [1, 2],
    "images": ["aGk="],
    "format": "json",
    "options": {"temperature": 0, "stop": ["a"]},
}
V1_CHAT: Final = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "s"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hello"},
                {"type": "image_url", "image_url": {"url": _PNG}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "reasoning": "r",
            "tool_calls": [
                {
                    "id": "c",
                    "type": "function",
                    "index": 0,
                    "function": {"name": "add", "arguments": '{"a":1}'},
                }
            ],
        },
        {"role": "tool", "content": "5", "tool_call_id": "c", "name": "add"},
    ],
    "tools": [_TOOL],
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA}},
    "stream_options": {"include_usage": True},
    "reasoning": {"effort": "none"},
    "stop": ["a"],
    "max_tokens": 5,
}
RESPONSES: Final = {
    "model": "m",
    "input": [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "hello"},
                {"type": "input_image", "image_url": _PNG, "detail": "auto"},
            ],
        },
        {
            "type": "reasoning",
            "id": "r",
            "summary": [{"type": "summary_text", "text": "s"}],
            "encrypted_content": "x",
        },
        {"type": "function_call", "id": "fc", "call_id": "c", "name": "add", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
    ],
    "tools": [{"type": "function", "name": "add", "description": "d", "parameters": _PARAMETERS}],
    "text": {"format": {"type": "json_schema", "name": "n", "schema": _SCHEMA}},
    "reasoning": {"effort": "none", "summary": "auto"},
    "instructions": "i",
}
MESSAGES: Final = {
    "model": "m",
    "max_tokens": 5,
    "system": [{"type": "text", "text": "x"}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hello"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "text", "text": "y"},
                {"type": "tool_use", "id": "c", "name": "add", "input": {"a": 1}},
                {"type": "server_tool_use", "id": "d", "name": "web_search", "input": {"query": "x"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "5"}]},
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "d",
                    "content": [{"type": "web_search_result", "url": "u", "title": "t"}],
                },
            ],
        },
    ],
    "tools": [{"name": "add", "description": "d", "input_schema": _PARAMETERS}],
    "tool_choice": {"type": "auto"},
    "thinking": {"type": "disabled", "budget_tokens": 10},
    "output_config": {"effort": "low"},
    "metadata": {"user_id": "u"},
    "stop_sequences": ["x"],
}
V1_TEXT: Final = {"model": "m", "prompt": "x", "stream_options": {"include_usage": True}, "stop": ["x"]}
EMBED: Final = {"model": "m", "input": ["x"], "encoding_format": "float", "options": {"num_ctx": 5}}
RERANK: Final = {"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1}

BODIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "/api/chat": CHAT,
    "/api/generate": GENERATE,
    "/api/embed": EMBED,
    "/v1/chat/completions": V1_CHAT,
    "/v1/completions": V1_TEXT,
    "/v1/embeddings": EMBED,
    "/v1/responses": RESPONSES,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": MESSAGES,
    "/v1/rerank": RERANK,
}


def odd_bodies(body: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Yield what is odd, in words, and the body with it."""
    for place in _places(body):
        for value in ODD:
            name = ".".join(map(str, place)) + f"={value!r}"
            yield name, json.dumps(_with(body, place, value)).encode()


def _places(value: object, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*above, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _places(inner, (*above, at))


def _with(value: Any, place: tuple[Any, ...], odd: object) -> Any:
    if not place:
        return odd
    key, *rest = place
    if isinstance(value, list):
        return [_with(inner, tuple(rest), odd) if at == key else inner for at, inner in enumerate(value)]
    return {**value, key: _with(value[key], tuple(rest), odd)}
