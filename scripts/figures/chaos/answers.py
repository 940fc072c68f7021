"""Reads answers of every route as a client without a library sees them: text, last frame, error frame.

Pure: bytes in, what they say out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from scripts.figures.chaos.asks import Ask, Call

_NATIVE: Final = (Call.CHAT, Call.GENERATE, Call.EMBED)


@dataclass(slots=True)
class Answer:
    """What has come of an answer."""

    text: str = ""
    vector: list[float] = field(default_factory=list)
    whole: bool = False
    """Its API's last frame came, or the one object that it is."""
    error: str = ""
    """Of an error frame."""


@dataclass(slots=True)
class Reader:
    """Takes an answer to one request in pieces."""

    ask: Ask
    answer: Answer = field(default_factory=Answer)
    _rest: bytes = b""

    def feed(self, chunk: bytes) -> None:
        """Read all frames that are whole now."""
        self._rest += chunk
        if not self.ask.streamed:
            return
        end = b"\n" if self.ask.call in _NATIVE else b"\n\n"
        *frames, self._rest = self._rest.split(end)
        for frame in frames:
            self._frame(frame)

    def end(self) -> None:
        """Read the one object that is the answer, where it is no stream.

        Raises:
            ValueError: the body is no JSON.
        """
        if not self.ask.streamed:
            read_object(json.loads(self._rest), self.answer)

    def _frame(self, frame: bytes) -> None:
        if self.ask.call in _NATIVE:
            read_native(json.loads(frame), self.answer)
            return
        data = [line.removeprefix(b"data: ") for line in frame.splitlines() if line.startswith(b"data: ")]
        for line in data:
            if line == b"[DONE]":
                self.answer.whole = True
            else:
                read_event(json.loads(line), self.answer)


def read_native(frame: dict[str, Any], answer: Answer) -> None:
    """Read a line of Ollama's stream."""
    answer.error = answer.error or str(frame.get("error", ""))
    answer.text += frame.get("message", frame).get("content", frame.get("response", "")) or ""
    answer.whole = answer.whole or frame.get("done", False)


def read_event(event: dict[str, Any], answer: Answer) -> None:
    """Read an event of OpenAI's or Anthropic's stream."""
    if event.get("error"):
        answer.error = answer.error or str(event["error"].get("message", event["error"]))
    for choice in event.get("choices", ()):
        answer.text += choice.get("text") or choice.get("delta", {}).get("content") or ""
    if event.get("type") == "content_block_delta":
        answer.text += event["delta"].get("text", "")
    answer.whole = answer.whole or event.get("type") == "message_stop"


def read_object(body: dict[str, Any], answer: Answer) -> None:
    """Read an answer in one piece, of whichever route."""
    for choice in body.get("choices", ()):
        answer.text += choice.get("text") or choice.get("message", {}).get("content") or ""
    answer.text += "".join(block.get("text", "") for block in body.get("content", ()))
    answer.text += body.get("message", {}).get("content", "") or body.get("response", "")
    if "embeddings" in body:
        answer.vector = body["embeddings"][0]
    elif "data" in body:
        answer.vector = body["data"][0]["embedding"]
    answer.whole = True
