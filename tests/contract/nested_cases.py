"""Requests in which a value inside of a field has another type, and texts with halves of characters.

Ollama reads bodies into structs of its own, at every depth, and says what it expected and where.
"""

from __future__ import annotations

import json
from typing import Any, Final

from tests.contract.cases import BAD_CALL, HELLO, IMAGE, SCHEMA, Case

GREETING: Final = {"model": "count", "messages": HELLO}
NULL_TOKEN: Final = {
    "model": "count",
    "prompt": "1 2",
    "stream": False,
    "options": {"temperature": 0, "num_predict": 3},
    "context": [None],
}


def _body(name: str, path: str, body: dict[str, Any], **fields: Any) -> Case:
    return Case(name=name, path=path, body=body | fields)


def _half(name: str, text: str) -> Case:
    return Case(
        name=f"body {name}", path="/api/generate", body=text, same=("response", "eval_count", "done_reason")
    )


def inside(case: Case, path: str, value: Any, same: tuple[str, ...] = ("error",)) -> Case:
    """Return a case in whose body one value is another; the server names its type and its place."""
    *above, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    body = json.loads(json.dumps(case.body))
    inner = body
    for key in above:
        inner = inner[key]
    inner[last] = value
    name = f"{case.name} with {path} {json.dumps(value)}"
    return Case(name=name, path=case.path, body=body, same=same)


_PARAMETERS: Final = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
_TOOL: Final = {"type": "function", "function": {"name": "f", "description": "d", "parameters": _PARAMETERS}}
_CALL: Final = {"id": "c", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}
_V1_CALL: Final = BAD_CALL | {"index": 0, "function": {"name": "f", "arguments": "{}"}}
_IMAGE_PART: Final = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
TOOLS: Final = _body("chat tools", "/api/chat", GREETING, tools=[_TOOL])
_CALLS: Final = _body(
    "chat calls", "/api/chat", GREETING, messages=[{"role": "assistant", "tool_calls": [_CALL]}]
)
_V1_CALLS: Final = _body(
    "v1 chat calls",
    "/v1/chat/completions",
    GREETING,
    messages=[{"role": "assistant", "reasoning": "r", "name": "n", "tool_calls": [_V1_CALL]}],
)
V1_FORMAT: Final = _body(
    "v1 chat format",
    "/v1/chat/completions",
    GREETING,
    response_format={"type": "json_schema", "json_schema": {"schema": SCHEMA}},
    stream_options={"include_usage": True},
    reasoning={"effort": "none"},
)
BLOCKS: Final = _body(
    "messages blocks",
    "/v1/messages",
    GREETING | {"max_tokens": 3},
    messages=[
        {
            "role": "user",
            "content": [
                {"type": "image", "source": IMAGE},
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "tool_use", "id": "c", "name": "f", "input": {}},
            ],
        }
    ],
    tools=[{"name": "f", "description": "d", "input_schema": _PARAMETERS}],
    thinking={"type": "disabled", "budget_tokens": 1},
    metadata={"user_id": "u"},
    tool_choice={"type": "auto"},
    output_config={"effort": "low"},
)
ITEMS: Final = _body(
    "responses items",
    "/v1/responses",
    GREETING,
    input=[
        {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,aGk="}]},
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "e"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ],
    tools=[{"type": "function", "name": "f", "description": "d", "parameters": _PARAMETERS}],
    text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
    reasoning={"effort": "none"},
)
_NO_ARGUMENTS: Final[tuple[Any, ...]] = (3, "{}", [])
_NO_TOOLS: Final[tuple[Any, ...]] = (None, {})
_IN_PARAMETERS: Final[tuple[tuple[str, Any], ...]] = (
    ("type", 3),
    ("required", 3),
    ("required", [3]),
    ("properties", 3),
    ("properties.a", 3),
    ("properties.a", {"type": 3}),
    ("properties.a", {"type": [3]}),
    ("properties.a", {"description": 3}),
    ("properties.a", {"enum": 3}),
    ("properties.a", {"anyOf": [3]}),
    ("properties.a", {"properties": {"b": 3}}),
    ("properties.a", {"required": "b"}),
)

NESTED: Final = (
    *(inside(TOOLS, f"tools.0.{key}", 3) for key in ("type", "function", "function.name")),
    *(inside(TOOLS, f"tools.0.function.parameters.{key}", value) for key, value in _IN_PARAMETERS),
    *(inside(TOOLS, "tools.0", value) for value in _NO_TOOLS),
    *(inside(_CALLS, f"messages.0.tool_calls.0.{key}", 3) for key in ("id", "function", "function.name")),
    inside(_CALLS, "messages.0.tool_calls.0.function.index", 1.5),
    *(inside(_CALLS, "messages.0.tool_calls.0.function.arguments", value) for value in _NO_ARGUMENTS),
    *(
        inside(_V1_CALLS, f"messages.0.{key}", 3)
        for key in ("role", "name", "reasoning", "tool_calls", "tool_calls.0", "tool_calls.0.id")
    ),
    *(
        inside(_V1_CALLS, f"messages.0.tool_calls.0.{key}", value)
        for key, value in (
            ("index", "x"),
            ("function", 3),
            ("function.name", 3),
            ("function.arguments", 3),
            ("function.arguments", "[]"),
            ("function.arguments", "3"),
        )
    ),
    *(
        inside(V1_FORMAT, key, 3)
        for key in ("response_format.type", "response_format.json_schema", "reasoning", "reasoning.effort")
    ),
    inside(V1_FORMAT, "stream_options.include_usage", 3),
    *(
        inside(BLOCKS, f"messages.0.{key}", 3)
        for key in (
            *("role", "content.0.type", "content.0.source", "content.0.source.type", "content.0.source.data"),
            *("content.1.thinking", "content.1.signature", "content.2.id", "content.2.input"),
        )
    ),
    *(
        inside(BLOCKS, key, 3)
        for key in (
            *("messages.0", "tools.0.name", "tools.0.input_schema", "tools.0.input_schema.type"),
            *("tools.0.input_schema.properties", "tools.0.input_schema.properties.a"),
            *("thinking.type", "metadata", "metadata.user_id", "tool_choice", "tool_choice.type"),
            "output_config.effort",
        )
    ),
    inside(BLOCKS, "thinking.budget_tokens", "x"),
    *(
        inside(ITEMS, f"input.{key}", 3)
        for key in (
            *("0.type", "0.role", "0.content.0.type", "0.content.0.text", "1.content.0.image_url"),
            *("2.id", "2.summary", "2.encrypted_content", "3.name", "3.arguments", "4.call_id"),
        )
    ),
    inside(ITEMS, "input.3.arguments", "[]"),
    *(
        inside(ITEMS, key, 3)
        for key in (
            *("text.format", "text.format.type", "tools.0", "tools.0.name", "tools.0.parameters"),
            *("tools.0.parameters.type", "tools.0.parameters.properties", "reasoning.effort"),
        )
    ),
)

_HALF: Final = (
    r'{"model": "count", "prompt": "\ud83d 1 2", "raw": true, "stream": false,'
    r' "options": {"temperature": 0, "num_predict": 3}}'
)
ODD_TEXTS: Final = (
    Case(name="a token that is null", path="/api/generate", body=NULL_TOKEN, same=("done_reason",)),
    _half("with half of a pair", _HALF),
    _half("with halves that are no pair", _HALF.replace(r"\ud83d", r"\ude00\ud83d")),
    _half("with an escaped backslash before what looks so", _HALF.replace("\\", "\\\\")),
    _half("with a whole pair", _HALF.replace(r"\ud83d", r"\ud83d\ude00")),
)
