"""A `FakeOllama` that counts on from the last number of its prompt, and breaks off where a test says.

It renders prompts, holds back what may become a stop sequence, and speaks the streams of five routes in the
frames of the real servers. Of what goes on with an answer it accepts only what is exactly right.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from aiohttp import web

from tests.support.fake_ollama import FakeOllama

ROUTES = ("/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions", "/v1/messages")
LAST = 9
"""Where the answer ends by itself."""
_ids = count(1)


@dataclass
class CountingWorker(FakeOllama):
    """Answers `1 2 … 9`, or what is left of it."""

    engine: str = "ollama"
    inference_routes: tuple[str, ...] = ROUTES
    cuts: deque[int | None] = field(default_factory=deque)
    """After how many bytes of its stream each of the next answers breaks off; None is never."""
    gates: dict[int, asyncio.Event] = field(default_factory=dict)
    """By seed: what an answer waits for once it has begun."""
    says_instead: bytes = b""
    """What it says before it breaks off, as a server whose runner died."""
    shown: dict[str, Any] = field(default_factory=dict)
    """What /api/show tells beside the usual."""
    renders: bool = True
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of answers, in order."""

    async def show(self, _: web.Request) -> web.Response:
        usual = {"model_info": {}, "capabilities": ["completion"], "parameters": self.parameters}
        return web.json_response({**usual, "details": {"family": "llama"}, **self.shown})

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body.get("_debug_render_only") and self.renders:
            told = {"_debug_info": {"rendered_template": rendered(request.path, body)}}
            return web.json_response({"model": body["model"], "done": False, **told})
        if not body.get("stream", request.path.startswith("/api/")):
            return web.json_response({"model": body["model"], "done": True})
        self.asked.append(body)
        prompt = rendered(request.path, body)
        if len(prompt) > 500:
            return web.json_response({"error": "the input length exceeds the context length"}, status=400)
        cut = self.cuts.popleft() if self.cuts else None
        frames = b"".join(stream(request.path, body, prompt))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        begun = len(frames) // 2 if cut is None else cut
        await response.write(frames[:begun])
        seed = (body.get("options") or {}).get("seed")
        if seed in self.gates:
            await self.gates[seed].wait()
        if cut is None:
            await response.write(frames[begun:])
            await response.write_eof()
            return response
        await response.write(self.says_instead)
        assert request.transport is not None
        request.transport.close()
        return response


def rendered(route: str, body: dict[str, Any]) -> str:
    """Return the prompt."""
    if body.get("raw") or body.get("template") == "{{ .Prompt }}":
        assert body.get("raw") or body["context"] == []
        return str(body["prompt"])
    if route.endswith(("generate", "/completions")) and "chat" not in route:
        return f"<user>{body['prompt']}<assistant>"
    system = f"<system>{body['system']}" if isinstance(body.get("system"), str) else ""
    turns = "".join(f"<{one['role']}>{_text(one['content'])}" for one in body["messages"])
    return f"{system}{turns}<assistant>"


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def numbers(body: dict[str, Any], prompt: str) -> tuple[list[str], str]:
    """Return the words that are sent and why they end."""
    options = body.get("options") or body
    last = re.search(r"(\d+)$", prompt)
    first = int(last[1]) + 1 if last else 1
    limit = options.get("num_predict") or options.get("max_tokens") or -1
    stops = options.get("stop") or []
    words: list[str] = []
    held = ""
    for made, number in enumerate(range(first, LAST + 1), 1):
        held += str(number) if number == 1 else f" {number}"
        if any(stop in held for stop in stops):
            return words, "stop"
        if not any(stop.startswith(held) for stop in stops):
            words.append(held)
            held = ""
        if made == limit:
            return [*words, held] if held else words, "length"
    return [*words, held] if held else words, "stop"


def stream(route: str, body: dict[str, Any], prompt: str) -> list[bytes]:
    """Return the frames of the answer."""
    words, reason = numbers(body, prompt)
    read = len(re.findall(r"<\w+>|[^ <>]+", prompt))
    if route.startswith("/api/"):
        return _native(route, body, words, (reason, read))
    if route == "/v1/messages":
        return _anthropic(body, words, (reason, read))
    return _openai(route, body, words, (reason, read))


def _native(route: str, body: dict[str, Any], words: list[str], end: tuple[str, int]) -> list[bytes]:
    def frame(text: str, **more: Any) -> bytes:
        said = {"message": {"role": "assistant", "content": text}} if "chat" in route else {"response": text}
        row = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z", **said, "done": False, **more}
        return json.dumps(row, separators=(",", ":")).encode() + b"\n"

    context = {"context": [1, 2]} if route == "/api/generate" and not body.get("raw") else {}
    counts = {"prompt_eval_count": end[1], "eval_count": len(words), "eval_duration": 5}
    return [*map(frame, words), frame("", done=True, done_reason=end[0], **context, **counts)]


def _openai(route: str, body: dict[str, Any], words: list[str], end: tuple[str, int]) -> list[bytes]:
    head = {"id": f"c-{next(_ids)}", "object": "chunk", "created": next(_ids), "model": body["model"]}

    def frame(text: str, reason: str | None) -> bytes:
        said = {"delta": {"role": "assistant", "content": text}} if "chat" in route else {"text": text}
        choice = {"index": 0, **said, "finish_reason": reason}
        return b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"

    frames = [*(frame(word, None) for word in words), frame("", end[0])]
    if (body.get("stream_options") or {}).get("include_usage"):
        usage = {
            "prompt_tokens": end[1],
            "completion_tokens": len(words),
            "total_tokens": end[1] + len(words),
        }
        frames.append(b"data: " + json.dumps({**head, "choices": [], "usage": usage}).encode() + b"\n\n")
    return [*frames, b"data: [DONE]\n\n"]


def _anthropic(body: dict[str, Any], words: list[str], end: tuple[str, int]) -> list[bytes]:
    message = {"id": f"m-{next(_ids)}", "model": body["model"], "role": "assistant", "content": []}
    reason = {"length": "max_tokens", "stop": "end_turn"}[end[0]]
    usage = {"input_tokens": end[1], "output_tokens": len(words)}
    block = {"type": "text", "text": ""}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
            for word in words
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage},
        {"type": "message_stop"},
    ]
    return [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events]
