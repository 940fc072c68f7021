"""What of a stream has reached its client, and the frames with which another worker's text goes on behind it.

A frame that goes on is made of the last one that was sent: same id, same `created`, same fields, other text.
So the client cannot tell the parts apart, whichever worker wrote the first. Decides where in each surface's
frames the text stands and how a stream ends. Pure; knows no worker and no request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

MOST_CHARACTERS: Final = 2**20
"""Of an answer that is kept; a longer one cannot go on."""
READ_BYTES: Final = 32 * 2**10
"""Frames are kept as they came up to this many bytes: most streams end well, and nobody has to read them."""
_ANTHROPIC_REASONS: Final = {"length": "max_tokens", "stop": "end_turn"}

Frame = Mapping[str, Any]


@dataclass(slots=True)
class Sent:
    """What the client has of an answer."""

    texts: list[str] = field(default_factory=list)
    characters: int = 0
    tokens: int = 0
    """Frames with a text: a worker sends one a token."""
    form: Frame = field(default_factory=dict)
    """The last frame that could carry text; frames that go on look like it."""
    finished: str = ""
    """Why it ended, in Ollama's words, once a frame has said so."""
    counted: bool = False
    """The frame with the counts was sent too."""
    obstacle: str = ""
    """Why it cannot go on, as far as its frames tell."""

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self.texts)

    def add(self, text: str) -> None:
        """Note a text that goes to the client."""
        if not text:
            return
        self.tokens += 1
        self.characters += len(text)
        if self.characters > MOST_CHARACTERS:
            self.texts.clear()
            self.obstacle = self.obstacle or f"the answer is longer than {MOST_CHARACTERS} characters"
        else:
            self.texts.append(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What the last frames of an answer that went on say."""

    reason: str
    """`stop` or `length`."""
    prompt_tokens: int
    output_tokens: int
    worker: Frame = field(default_factory=dict)
    """The last frame of the worker that ended it, in Ollama's own form; empty when none had to be asked."""
    story: Frame = field(default_factory=dict)
    """What the client is told of how it came about, in a field that clients do not know."""
    include_usage: bool = False
    """An OpenAI client wants a chunk with the counts."""
    total_ns: int = 0
    """Since the request came."""
    before_ns: int = 0
    """Of these, what earlier workers took to generate."""


class Frames(Protocol):
    """One surface's stream."""

    sent: Sent

    def hear(self, frame: Frame) -> None:
        """Note a frame that goes to the client."""

    def piece(self, text: str, created_at: str) -> bytes:
        """Return the frame that carries a further text; `created_at` is when its worker made it."""

    def end(self, ending: Ending) -> bytes:
        """Return the frames that end the stream, as far as they were not sent."""


@dataclass(slots=True)
class NativeFrames:
    """Lines of /api/chat and /api/generate."""

    sent: Sent = field(default_factory=Sent)

    def hear(self, frame: Frame) -> None:
        """Note a line."""
        message = frame.get("message")
        carrier = message if isinstance(message, dict) else frame
        if carrier.get("thinking") or carrier.get("tool_calls") or frame.get("logprobs"):
            self.sent.obstacle = "the answer is more than text"
        if frame.get("done"):
            self.sent.finished = str(frame.get("done_reason") or "stop")
            return
        self.sent.form = frame
        self.sent.add(carrier.get("content" if carrier is message else "response") or "")

    def piece(self, text: str, created_at: str) -> bytes:
        """Return a line."""
        return _encode(self._frame(text, created_at)) + b"\n"

    def end(self, ending: Ending) -> bytes:
        """Return the last line; what is zero is left out, as Ollama does."""
        worker = ending.worker
        numbers = {
            "total_duration": ending.total_ns,
            "load_duration": worker.get("load_duration", 0),
            "prompt_eval_count": ending.prompt_tokens,
            "prompt_eval_duration": worker.get("prompt_eval_duration", 0),
            "eval_count": ending.output_tokens,
            "eval_duration": ending.before_ns + worker.get("eval_duration", 0),
        }
        frame = self._frame("", str(worker.get("created_at", "")))
        frame |= {"done": True, "done_reason": ending.reason}
        if worker.get("context"):
            frame["context"] = worker["context"]
        told = {name: number for name, number in numbers.items() if number}
        return _encode(frame | told | _story(ending)) + b"\n"

    def _frame(self, text: str, created_at: str) -> dict[str, Any]:
        frame = dict(self.sent.form)
        if created_at:
            frame["created_at"] = created_at
        if isinstance(frame.get("message"), dict):
            return frame | {"message": {**frame["message"], "content": text}}
        return frame | {"response": text}


@dataclass(slots=True)
class OpenAIFrames:
    """Events of /v1/chat/completions and /v1/completions."""

    sent: Sent = field(default_factory=Sent)

    def hear(self, frame: Frame) -> None:
        """Note a chunk."""
        choices = frame.get("choices")
        if not choices:
            self.sent.counted = True
            return
        choice = choices[0]
        delta = choice.get("delta") or {}
        extras = [value for name, value in delta.items() if name not in ("role", "content")]
        if len(choices) > 1 or choice.get("index") or choice.get("logprobs") or any(extras):
            self.sent.obstacle = "the answer is more than one text"
        if choice.get("finish_reason"):
            self.sent.finished = str(choice["finish_reason"])
        if not choice.get("finish_reason") or not self.sent.form:
            self.sent.form = frame
        self.sent.add(delta.get("content") or choice.get("text") or "")

    def piece(self, text: str, created_at: str) -> bytes:  # noqa: ARG002 -- `created` is the stream's
        """Return a chunk."""
        return _event(self._chunk(text, None))

    def end(self, ending: Ending) -> bytes:
        """Return the chunk that says why, the one that counts if it was asked for, and `[DONE]`."""
        events = [] if self.sent.finished else [_event(self._chunk("", ending.reason) | _story(ending))]
        if ending.include_usage and not self.sent.counted:
            prompt, output = ending.prompt_tokens, ending.output_tokens
            usage = {
                "prompt_tokens": prompt,
                "completion_tokens": output,
                "total_tokens": prompt + output,
            }
            events.append(_event({**self.sent.form, "choices": [], "usage": usage}))
        return b"".join((*events, b"data: [DONE]\n\n"))

    def _chunk(self, text: str, reason: str | None) -> dict[str, Any]:
        choice = {**self.sent.form["choices"][0], "finish_reason": reason}
        if "delta" in choice:
            choice["delta"] = {**choice["delta"], "content": text}
        else:
            choice["text"] = text
        return {**self.sent.form, "choices": [choice]}


@dataclass(slots=True)
class AnthropicFrames:
    """Events of /v1/messages."""

    sent: Sent = field(default_factory=Sent)
    _open: bool = False
    """A block of text has begun and not ended."""
    _index: int = 0
    """Of the block that is open, or that would be next."""

    def hear(self, frame: Frame) -> None:
        """Note an event."""
        match frame.get("type"):
            case "message_start":
                self.sent.form = frame
            case "content_block_start":
                self._open, self._index = True, int(frame.get("index", 0))
                if (frame.get("content_block") or {}).get("type") != "text":
                    self.sent.obstacle = "the answer is more than text"
            case "content_block_delta":
                self.sent.add((frame.get("delta") or {}).get("text") or "")
            case "content_block_stop":
                self._open, self._index = False, self._index + 1
            case "message_delta":
                self.sent.finished = str((frame.get("delta") or {}).get("stop_reason") or "end_turn")
            case _:
                pass

    def piece(self, text: str, created_at: str) -> bytes:  # noqa: ARG002 -- these events have no time
        """Return the event of a further text, and before it that of a block where none is open."""
        delta = {"type": "text_delta", "text": text}
        event = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return self._opening() + _named(event)

    def end(self, ending: Ending) -> bytes:
        """Return the events from the end of the block on."""
        events: list[dict[str, Any]] = []
        if self._open:
            events.append({"type": "content_block_stop", "index": self._index})
        if not self.sent.finished:
            usage = {"input_tokens": ending.prompt_tokens, "output_tokens": ending.output_tokens}
            delta = {"stop_reason": _ANTHROPIC_REASONS.get(ending.reason, "end_turn")}
            events.append({"type": "message_delta", "delta": delta, "usage": usage} | _story(ending))
        return b"".join(_named(event) for event in [*events, {"type": "message_stop"}])

    def _opening(self) -> bytes:
        if self._open:
            return b""
        self._open = True
        block = {"type": "text", "text": ""}
        return _named({"type": "content_block_start", "index": self._index, "content_block": block})


FRAMES: Final[Mapping[str, type[NativeFrames | OpenAIFrames | AnthropicFrames]]] = {
    "/api/chat": NativeFrames,
    "/api/generate": NativeFrames,
    "/v1/chat/completions": OpenAIFrames,
    "/v1/completions": OpenAIFrames,
    "/v1/messages": AnthropicFrames,
}
"""The routes whose streams can go on."""


@dataclass(slots=True)
class Heard:
    """Takes frames in on their way to the client, and reads them when somebody wants to know."""

    frames: Frames
    frame_end: bytes
    _unread: bytearray = field(default_factory=bytearray)

    def add(self, frames: bytes) -> tuple[bytes, str]:
        """Take whole frames in; return what may go to the client, and what a worker says went wrong, if so.

        A frame with an error stays here: the client gets one only if nobody can go on.
        """
        error = ""
        if b'"error"' in frames:
            frames, error = self._before_error(frames)
        self._unread += frames
        if len(self._unread) > READ_BYTES:
            self.read()
        return frames, error

    def read(self) -> Sent:
        """Return what the client has."""
        unread, self._unread = bytes(self._unread), bytearray()
        for frame in self._split(unread):
            try:
                told = _object(frame)
            except ValueError:
                self.frames.sent.obstacle = "a frame of the answer cannot be read"
                continue
            if told is not None:
                self.frames.hear(told)
        return self.frames.sent

    def _before_error(self, frames: bytes) -> tuple[bytes, str]:
        before = bytearray()
        for frame in self._split(frames):
            error = _error(frame)
            if error:
                return bytes(before), error
            before += frame + self.frame_end
        return frames, ""

    def _split(self, frames: bytes) -> Iterator[bytes]:
        return (frame for frame in frames.replace(b"\r\n", b"\n").split(self.frame_end) if frame.strip())


def _object(frame: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a line or an event; None where it has none, as `data: [DONE]`."""
    for line in frame.split(b"\n"):
        text = line.strip().removeprefix(b"data:").strip()
        if text.startswith(b"{"):
            told = json.loads(text)
            return told if isinstance(told, dict) else None
    return None


def _error(frame: bytes) -> str:
    """Return what a frame says went wrong; empty when it says nothing of the kind."""
    try:
        told = _object(frame)
    except ValueError:
        return ""
    error = (told or {}).get("error")
    return str(error.get("message", error)) if isinstance(error, dict) else str(error or "")


def _story(ending: Ending) -> dict[str, Any]:
    return {"corral": ending.story} if ending.story else {}


def _encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _event(value: object) -> bytes:
    return b"data: " + _encode(value) + b"\n\n"


def _named(event: Mapping[str, Any]) -> bytes:
    return b"event: " + str(event["type"]).encode() + b"\n" + _event(event)
