"""OpenAI's Responses API: named events on demand, one of `response.completed` and its like at the end.

Decides what its requests mean and how its answers end. Knows nothing of HTTP or workers.
"""

from __future__ import annotations

import json
from typing import Final

from gateway.surfaces.identity import Caller
from gateway.surfaces.openai import error_object
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

_ENDS: Final = (
    b"\nevent: response.completed",
    b"\nevent: response.incomplete",
    b"\nevent: response.failed",
)


class ResponsesSurface:
    """Responses."""

    name = "responses"
    routes = frozenset({"/v1/responses"})
    carries_context = False
    id_header = "X-Request-Id"
    frame_end = b"\n\n"

    def parse(self, route: str, body: bytes, caller: Caller = NOBODY) -> ParsedRequest:
        """Read a request; its bytes go to the worker as they are."""
        written = read_object(body, route)
        request = with_known_keys(written)
        streamed = read_flag(request, "stream", default=False, route=route)
        facts = read_facts(request, caller, stream=streamed, converses=True, route=route)
        return ParsedRequest(facts, body if request is written else json.dumps(request).encode())

    def error(self, status: int, message: str, *, request_id: str = "") -> bytes:  # noqa: ARG002 -- no part of this shape
        """Return OpenAI's error object."""
        return json.dumps(error_object(status, message)).encode()

    def error_frame(self, message: str, frames: int = 0) -> bytes:
        """Return the event `error`: fields as OpenAI documents them, and the object that its SDKs raise."""
        error = {**error_object(500, message)["error"], "code": "server_error"}
        event = {**error, "type": "error", "sequence_number": frames, "error": error}
        return b"event: error\ndata: " + json.dumps(event).encode() + b"\n\n"

    def final_marks(self, route: str) -> tuple[bytes, ...]:  # noqa: ARG002 -- there is one
        """Return the names of the events of which each is a last one."""
        return _ENDS

    def counts(self, route: str, tail: bytes, frames: int) -> Counts:  # noqa: ARG002 -- the usage tells
        """Return those of `usage`, which the last event of a stream has too."""
        return Counts(last_count(b'"output_tokens":', tail), last_count(b'"input_tokens":', tail))
