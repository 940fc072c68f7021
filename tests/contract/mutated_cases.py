"""Requests whose bodies differ from good ones in one value: of another type, empty, or no schema at all.

Each was found by sending the same to a real Ollama and to Corral.
"""

from __future__ import annotations

from typing import Any, Final

from tests.contract.cases import HELLO, Case
from tests.contract.nested_cases import BLOCKS, ITEMS, TOOLS, V1_FORMAT, inside

_GREEDY: Final = {"temperature": 0}
_GENERATE: Final = Case(
    name="generate",
    path="/api/generate",
    body={"model": "count", "prompt": "1998", "raw": True, "stream": False, "options": _GREEDY},
)
_CHAT: Final = Case(
    name="chat",
    path="/api/chat",
    body={
        "model": "count",
        "messages": HELLO,
        "stream": False,
        "options": _GREEDY | {"num_predict": 3},
        "format": {},
    },
)
_V1_TEXT: Final = Case(
    name="v1 text", path="/v1/completions", body={"model": "count", "prompt": "1998", "max_tokens": 3}
)
_CREATE: Final = Case(
    name="create", path="/api/create", body={"model": "new", "from": "count", "stream": False}
)
_PULL: Final = Case(name="pull", path="/api/pull", body={"model": "a b", "stream": False})

_NO_ITEMS: Final[tuple[Any, ...]] = ("x", 0, [], None)
_NO_PARTS: Final[tuple[Any, ...]] = (0, "", [], {"type": "output_text", "text": 3})
_NO_CONTENT: Final[tuple[Any, ...]] = (0, {}, False)
_NO_PROPERTIES: Final[tuple[Any, ...]] = (0, "", [])
_NO_TOOLS: Final[tuple[Any, ...]] = (0, "x", {})
_NO_SIZES: Final[tuple[Any, ...]] = ("x", 1.5, [])
_NO_STOPS: Final[tuple[Any, ...]] = ([None], [1], [[]])
_NO_FILES: Final[tuple[Any, ...]] = (3, [], {"a.gguf": 1})

VALUES: Final = (
    *(inside(ITEMS, "input.0", value) for value in _NO_ITEMS),
    *(inside(ITEMS, "input.0.content.0", value) for value in _NO_PARTS),
    inside(ITEMS, "include", 3),
    inside(ITEMS, "include", [3]),
    *(inside(BLOCKS, "messages.0.content", value) for value in _NO_CONTENT),
    *(inside(TOOLS, "tools.0.function.parameters.properties.a", value) for value in _NO_PROPERTIES),
    *(inside(V1_FORMAT, "tools", value) for value in _NO_TOOLS),
    inside(V1_FORMAT, "_debug_render_only", "x"),
    *(inside(_GENERATE, key, value) for key in ("width", "height", "steps") for value in _NO_SIZES),
    *(
        inside(_V1_TEXT, key, "x")
        for key in ("temperature", "top_p", "frequency_penalty", "presence_penalty")
    ),
    *(inside(_V1_TEXT, "stop", value) for value in _NO_STOPS),
)
ENDS: Final = (
    inside(_GENERATE, "logprobs", value=True, same=("token", "bytes", "response")),
    Case(
        name="v1 chat logprobs to the end",
        path="/v1/chat/completions",
        body={
            "model": "count",
            "messages": [{"role": "user", "content": "1996"}],
            "logprobs": True,
            "temperature": 0,
            "stream": True,
            "max_tokens": 5,
        },
        same=("token", "bytes", "content"),
    ),
)
NO_SCHEMAS: Final[tuple[dict[str, Any], ...]] = (
    {"a": 1},
    {"description": "x"},
    {"type": "zzz"},
    {"type": "object", "properties": {"n": {"type": "zzz"}}},
    {"$ref": "#/x"},
    {"type": "string", "pattern": "a("},
    {"type": "object", "properties": 3},
    {"type": "integer", "minimum": "x"},
)
SCHEMAS: Final[tuple[dict[str, Any], ...]] = (
    {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
    {"oneOf": [{"type": "object"}, {"type": "object", "properties": {"a": {"type": "integer"}}}]},
    {"type": "object", "dependentRequired": {"a": ["b"]}},
    {"type": "string", "format": "binary"},
    {"properties": {"n": {"type": "integer"}}},
)
FORMATS: Final = tuple(inside(_CHAT, "format", schema, same=()) for schema in (*NO_SCHEMAS, *SCHEMAS))
STORES: Final = (
    *(inside(_CREATE, "files", value) for value in _NO_FILES),
    inside(_CREATE, "adapters", 3),
    inside(_CREATE, "name", 3),
    inside(_CREATE, "from", ""),
    inside(_PULL, "username", 3),
    inside(_PULL, "password", []),
)
MUTATED: Final = (*VALUES, *ENDS, *FORMATS, *STORES)
