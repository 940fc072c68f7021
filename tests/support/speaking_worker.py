"""A `FakeOllama` that speaks every surface, in frames as the real servers write them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.web_request import FileField

from tests.support.fake_ollama import FakeOllama

OF_OLLAMA = (
    *("/api/generate", "/api/chat", "/v1/chat/completions"),
    *("/v1/messages", "/v1/responses", "/v1/audio/transcriptions"),
)
OF_EMBEDDED = (*OF_OLLAMA[:5], "/v1/messages/count_tokens", "/v1/rerank")
TOOL_ARGUMENTS = {"model": "inner", "message": {"model": "inner"}}
"""What a model may say, and nobody may change."""
USAGE = {"input_tokens": 7, "output_tokens": 1}


@dataclass
class SpeakingWorker(FakeOllama):
    """Answers each route in its own frames, with the name that it was asked for in them."""

    inference_routes: tuple[str, ...] = OF_OLLAMA
    engine: str = "ollama"

    async def read(self, request: web.Request) -> dict[str, Any]:
        """Return the JSON, or the fields of the form."""
        if not request.content_type.startswith("multipart/"):
            return await super().read(request)
        form = await request.post()
        return {
            name: value.file.read() if isinstance(value, FileField) else value for name, value in form.items()
        }

    def frames(self, request: web.Request, body: dict[str, Any]) -> tuple[str, bytes, bytes]:
        """Return a stream where one was asked for, else one object in two pieces."""
        if request.path in OF_OLLAMA[:5] and body.get("stream", request.path.startswith("/api/")):
            return _stream(request.path, body["model"])
        whole = _whole(request.path, body["model"])
        return "application/json", whole[:20], whole[20:]


def _stream(route: str, model: str) -> tuple[str, bytes, bytes]:
    match route:
        case "/api/generate" | "/api/chat":
            first = {"model": model, "message": {"role": "assistant", "content": "1"}, "done": False}
            call = {"function": {"name": "f", "arguments": TOOL_ARGUMENTS}}
            last = {"model": model, "message": {"content": "", "tool_calls": [call]}, "done": True}
            return "application/x-ndjson", _line(first), _line({**last, "eval_count": 1})
        case "/v1/messages":
            started = {"type": "message_start", "message": _message(model, [])}
            block = {"type": "tool_use", "id": "t", "name": "f", "input": TOOL_ARGUMENTS}
            rest: list[dict[str, Any]] = [
                {"type": "content_block_start", "index": 0, "content_block": block},
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE},
                {"type": "message_stop"},
            ]
            return "text/event-stream", _event(started), b"".join(_event(event) for event in rest)
        case "/v1/responses":
            begun = {"type": "response.created", "sequence_number": 0, "response": _response(model, [])}
            done = {
                "type": "response.completed",
                "sequence_number": 1,
                "response": _response(model, [_item()]),
            }
            return "text/event-stream", _event(begun), _event(done)
        case _:
            chunks = [_chunk(model, {"content": "1"}), _chunk(model, {"content": '"model": "inner"'})]
            ending = b"".join(_data(chunk) for chunk in chunks[1:]) + b"data: [DONE]\n\n"
            return "text/event-stream", _data(chunks[0]), ending


def _whole(route: str, model: str) -> bytes:
    answers: dict[str, dict[str, Any]] = {
        "/v1/messages": _message(model, [{"type": "text", "text": "1"}]),
        "/v1/messages/count_tokens": {"input_tokens": 7},
        "/v1/responses": _response(model, [_item()]),
        "/v1/rerank": {
            "model": model,
            "results": [{"index": 0, "relevance_score": 0.5}],
            "usage": {"prompt_tokens": 7, "total_tokens": 7},
        },
        "/v1/audio/transcriptions": {"text": "one"},
        "/v1/chat/completions": {
            "id": "c",
            "model": model,
            "choices": [{"index": 0, "message": {"content": "1"}, "finish_reason": "stop"}],
        },
    }
    native = {"model": model, "message": {"role": "assistant", "content": "1"}, "done": True}
    return json.dumps(answers.get(route, native)).encode()


def _message(model: str, content: list[Any]) -> dict[str, Any]:
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "usage": USAGE,
    }


def _response(model: str, output: list[Any]) -> dict[str, Any]:
    return {"id": "r", "object": "response", "model": model, "output": output, "usage": USAGE}


def _item() -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": "i",
        "call_id": "c",
        "name": "f",
        "arguments": json.dumps(TOOL_ARGUMENTS),
    }


def _chunk(model: str, delta: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return f"event: {value['type']}\n".encode() + _data(value)
