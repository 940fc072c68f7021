"""OpenAI's API as Ollama serves it under /v1: SSE streams on demand, `data: [DONE]` at the end.

Decides what its requests mean and how its answers end. Knows nothing of HTTP or workers.
"""

from __future__ import annotations

import json
from typing import Any, Final

from gateway.surfaces.identity import Caller
from gateway.surfaces.surface import (
    NOBODY,
    Counts,
    ParsedRequest,
    last_count,
    read_facts,
    read_flag,
    read_object,
    with_known_keys,
)

_EMBEDS: Final = "/v1/embeddings"
_FRAMES_WITHOUT_TOKEN: Final = 2
"""The one with the reason why it ended, and the mark of the end."""
_ERROR_TYPE: Final = {400: "invalid_request_error", 404: "not_found_error", 413: "invalid_request_error"}


class OpenAISurface:
    """chat/completions, completions and embeddings."""

    name = "openai"
    routes = frozenset({"/v1/chat/completions", "/v1/completions", _EMBEDS})
    carries_context = False
    id_header = "X-Request-Id"
    frame_end = b"\n\n"

    def parse(self, route: str, body: bytes, caller: Caller = NOBODY) -> ParsedRequest:
        """Read a request; its bytes go to the worker as they are."""
        written = read_object(body, route)
        request = with_known_keys(written)
        converses = route != _EMBEDS
        streamed = converses and read_flag(request, "stream", default=False, route=route)
        facts = read_facts(request, caller, stream=streamed, converses=converses, route=route)
        return ParsedRequest(facts, body if request is written else json.dumps(request).encode())

    def error(self, status: int, message: str, *, request_id: str = "") -> bytes:  # noqa: ARG002 -- no part of this shape
        """Return OpenAI's error object with the types that Ollama gives."""
        return json.dumps(error_object(status, message)).encode()

    def error_frame(self, message: str, frames: int = 0) -> bytes:  # noqa: ARG002 -- chunks have no number
        """Return the error as an SSE event, which OpenAI's clients raise."""
        return b"data: " + self.error(500, message) + b"\n\n"

    def final_marks(self, route: str) -> tuple[bytes, ...]:  # noqa: ARG002 -- the same on all routes
        """Return the last event."""
        return (b"\ndata: [DONE]",)

    def counts(self, route: str, tail: bytes, frames: int) -> Counts:
        """Return those of `usage`, which a stream has only when the client asked for it; else its frames."""
        prompt = last_count(b'"prompt_tokens":', tail)
        if route == _EMBEDS:
            return Counts(0, prompt)
        told = last_count(b'"completion_tokens":', tail)
        streamed = frames - _FRAMES_WITHOUT_TOKEN if frames > _FRAMES_WITHOUT_TOKEN else None
        return Counts(streamed if told is None else told, prompt)


def error_object(status: int, message: str) -> dict[str, Any]:
    """Return `{"error": {message, type, param, code}}`."""
    kind = _ERROR_TYPE.get(status, "api_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
