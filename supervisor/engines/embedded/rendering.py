"""How native frames look to a client of each surface. Pure.

Every answer is computed as Ollama's native frames; a rendering turns them into bytes.
"""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

from supervisor.engines.embedded.frames import Frame

JSON_TYPE: Final = "application/json; charset=utf-8"


class Rendering(Protocol):
    """One surface's form of an answer."""

    @property
    def stream_type(self) -> str:
        """Content-Type of a stream."""

    @property
    def whole_type(self) -> str:
        """Content-Type of one object."""

    @property
    def one_is_streamed(self) -> bool:
        """Whether an answer that is one frame (of a load, or a prompt that is only shown) is a stream too."""

    def chunk(self, frame: Frame) -> bytes:
        """Return what is sent for one frame of a stream."""

    def whole(self, frame: Frame) -> dict[str, Any]:
        """Return the one object of an answer that is not streamed."""

    def broken(self, text: str) -> bytes:
        """Return the last words of a stream that fails."""


class Native:
    """Ollama's own: one JSON object a line."""

    stream_type = "application/x-ndjson"
    whole_type = JSON_TYPE
    one_is_streamed = False

    def chunk(self, frame: Frame) -> bytes:
        """Return the frame as a line."""
        return encode(frame) + b"\n"

    def whole(self, frame: Frame) -> dict[str, Any]:
        """Return the frame."""
        return frame

    def broken(self, text: str) -> bytes:
        """Return the error line."""
        return encode({"error": text}) + b"\n"


def encode(value: object) -> bytes:
    """Return compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def named_event(name: str, value: object) -> bytes:
    """Return a server-sent event with a name."""
    return b"event: " + name.encode() + b"\ndata: " + encode(value) + b"\n\n"
