"""Anthropic's routes: each body is turned into a native one and the native answer back."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from supervisor.engines.embedded import anthropic, bodies, structs
from supervisor.engines.embedded.delivery import deliver, json_response
from supervisor.engines.embedded.native import Call, answer_frames, chat_call, count_prompt
from supervisor.engines.embedded.worker import Worker


class AnthropicRoutes:
    """Handlers under /v1/messages."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def messages(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/messages."""
        body = bodies.decode(await request.read(), structs.MESSAGES)
        call = self._call(anthropic.to_chat(body))
        rendering = anthropic.MessagesRendering(
            id=f"msg_{secrets.token_hex(12)}", stops=body.get("stop_sequences", ())
        )
        frames = answer_frames(self._worker, call)
        return await deliver(request, frames, rendering, stream=body.get("stream", False))

    async def count_tokens(self, request: web.Request) -> web.Response:
        """POST /v1/messages/count_tokens: what the same message would report as `input_tokens`."""
        body = bodies.decode(await request.read(), structs.MESSAGES)
        count = await count_prompt(self._worker, self._call(anthropic.prompt_of(body)))
        return json_response({"input_tokens": count}, content_type="application/json")

    def _call(self, native: Mapping[str, Any]) -> Call:
        """Return the call; a model that cannot think is not asked to, as Anthropic's clients always ask."""
        call = replace(chat_call(self._worker, native), tells_more=True)
        if "thinking" in call.model.capabilities:
            return call
        return replace(call, body={name: value for name, value in native.items() if name != "think"})
