"""Anthropic's Messages API: named events on demand, `message_stop` at the end.

Decides what its requests mean and how its answers end. Knows nothing of HTTP or workers.
"""

from __future__ import annotations

import json
from dataclasses import replace
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

_MESSAGES: Final = "/v1/messages"
_COUNT_TOKENS: Final = "/v1/messages/count_tokens"
_ERROR_TYPE: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OTHER_TYPE: Final = "api_error"


class AnthropicSurface:
    """messages, and how many tokens one would have."""

    name = "anthropic"
    routes = frozenset({_MESSAGES, _COUNT_TOKENS})
    carries_context = False
    id_header = "Request-Id"
    frame_end = b"\n\n"

    def parse(self, route: str, body: bytes, caller: Caller = NOBODY) -> ParsedRequest:
        """Read a request; its bytes go to the worker as they are."""
        written = read_object(body, route)
        request = with_known_keys(written)
        answers = route == _MESSAGES
        streamed = answers and read_flag(request, "stream", default=False, route=route)
        facts = read_facts(request, caller, stream=streamed, converses=answers, route=route)
        return ParsedRequest(
            replace(facts, computes=answers), body if request is written else json.dumps(request).encode()
        )

    def error(self, status: int, message: str, *, request_id: str = "") -> bytes:
        """Return Anthropic's error object."""
        return json.dumps(error_object(status, message, request_id)).encode()

    def error_frame(self, message: str, frames: int = 0) -> bytes:  # noqa: ARG002 -- events have no number
        """Return the event that Anthropic's clients raise."""
        return b"event: error\ndata: " + self.error(500, message) + b"\n\n"

    def final_marks(self, route: str) -> tuple[bytes, ...]:  # noqa: ARG002 -- only messages are streamed
        """Return the last event's name."""
        return (b"\nevent: message_stop",)

    def counts(self, route: str, tail: bytes, frames: int) -> Counts:  # noqa: ARG002 -- the usage tells
        """Return those of `usage`, which stands in a stream's `message_delta`."""
        prompt = last_count(b'"input_tokens":', tail)
        return Counts(0 if route == _COUNT_TOKENS else last_count(b'"output_tokens":', tail), prompt)


def error_object(status: int, message: str, request_id: str = "") -> dict[str, Any]:
    """Return `{"type": "error", "error": {type, message}, "request_id"}`."""
    error = {"type": _ERROR_TYPE.get(status, _OTHER_TYPE), "message": message}
    return {"type": "error", "error": error, "request_id": request_id or None}
