"""Ollama's answer frames from events: streamed as they come, or put together into one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from supervisor.engines.embedded.events import End, Piece

Frame = dict[str, Any]


def timestamp(moment: datetime) -> str:
    """Return RFC 3339 in UTC, as Go writes it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the last frame says beside the event."""

    total_ns: int
    load_ns: int
    context: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Framer:
    """Makes the frames of one answer."""

    model: str
    chat: bool
    """`message` objects (chat) instead of `response` texts (generate)."""
    top_logprobs: int = 0
    logprobs: bool = False
    tells_more: bool = False
    """Every piece tells the length of the prompt, the end its stop word: for surfaces that tell them."""

    def piece(self, piece: Piece, moment: datetime) -> Frame:
        """Return the frame of a part of the answer."""
        frame = self._frame(moment, piece.content, piece.thinking)
        if self.logprobs and piece.logprobs:
            frame["logprobs"] = [self._logprob(item) for item in piece.logprobs]
        return frame | ({"prompt_eval_count": piece.prompt_tokens} if self.tells_more else {})

    def calls(self, end: End, moment: datetime) -> Frame:
        """Return the frame that carries the tool calls."""
        frame = self._frame(moment, "")
        target = frame["message"] if self.chat else frame
        target["tool_calls"] = list(end.tool_calls)
        return frame | ({"prompt_eval_count": end.prompt_tokens} if self.tells_more else {})

    def end(self, end: End, figures: Figures, moment: datetime) -> Frame:
        """Return the last frame; counts and times that are zero are left out, as Go does."""
        frame = self._frame(moment, "")
        frame |= {"done": True, "done_reason": end.reason}
        numbers = {
            "total_duration": figures.total_ns,
            "load_duration": figures.load_ns,
            "prompt_eval_count": end.prompt_tokens,
            "prompt_eval_duration": end.prompt_ns,
            "eval_count": end.answer_tokens,
            "eval_duration": end.answer_ns,
        }
        if self.tells_more:
            frame["stop_word"] = end.stop_word
        if figures.context and not self.chat:
            frame["context"] = list(figures.context)
        return frame | {name: number for name, number in numbers.items() if number}

    def rendered(self, prompt: str, moment: datetime) -> Frame:
        """Return the answer to a request that only wants to see its prompt."""
        frame = self._frame(moment, "")
        if self.chat:
            frame["message"] = {"role": "", "content": ""}
        return frame | {"_debug_info": {"rendered_template": prompt}}

    def empty(self, reason: str, moment: datetime) -> Frame:
        """Return the answer to a request without a prompt: `load` or `unload`."""
        return self._frame(moment, "") | {"done": True, "done_reason": reason}

    def _frame(self, moment: datetime, content: str, thinking: str = "") -> Frame:
        frame: Frame = {"model": self.model, "created_at": timestamp(moment)}
        extra = {"thinking": thinking} if thinking else {}
        if self.chat:
            frame["message"] = {"role": "assistant", "content": content} | extra
        else:
            frame |= {"response": content} | extra
        frame["done"] = False
        return frame

    def _logprob(self, item: Mapping[str, Any]) -> Frame:
        entry = _token(item)
        if self.top_logprobs:
            entry["top_logprobs"] = [_token(top) for top in item.get("top_logprobs", ())[: self.top_logprobs]]
        return entry


def whole(frames: Iterable[Frame]) -> Frame:
    """Return one frame for a client that wants no stream: the last one with all texts in it.

    Raises:
        ValueError: there are no frames.
    """
    collected = list(frames)
    if not collected:
        raise ValueError("an answer has at least its last frame")
    if "message" in collected[-1]:
        message = _joined([frame["message"] for frame in collected], "content")
        last = {**collected[-1], "message": message}
    else:
        last = _joined(collected, "response")
    logprobs = [entry for frame in collected for entry in frame.get("logprobs", ())]
    return {**last, "logprobs": logprobs} if logprobs else last


def _joined(parts: list[Frame], text: str) -> Frame:
    """Return the last part with the texts and calls of all."""
    thinking = "".join(part.get("thinking", "") for part in parts)
    calls = [call for part in parts for call in part.get("tool_calls", ())]
    joined = {**parts[-1], text: "".join(part[text] for part in parts)}
    joined |= {"thinking": thinking} if thinking else {}
    return joined | ({"tool_calls": calls} if calls else {})


def _token(item: Mapping[str, Any]) -> Frame:
    return {"token": item["token"], "logprob": item["logprob"], "bytes": list(item.get("bytes", ()))}
