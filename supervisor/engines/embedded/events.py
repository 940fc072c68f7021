"""What llama.cpp's streams say, in one vocabulary for `/completion` and `/v1/chat/completions`. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from supervisor.engines.embedded.stops import Stops

_NANOSECONDS_PER_MS: Final = 1_000_000
_REASONS: Final = {"limit": "length", "length": "length"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of the answer."""

    content: str = ""
    thinking: str = ""
    logprobs: tuple[Mapping[str, Any], ...] = ()
    prompt_tokens: int = 0
    """Length of the prompt, where it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The answer is complete."""

    reason: str
    """`stop` or `length`."""
    prompt_tokens: int
    prompt_ns: int
    answer_tokens: int
    answer_ns: int
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    text: str = ""
    """The whole answer as it came, before it was taken apart."""
    stop_word: str = ""
    """Which one ended it."""
    held: tuple[int, ...] = ()
    """Tokens that llama.cpp held back, because a stop word may begin with them, when the limit came."""


Event = Piece | End


@dataclass(slots=True)
class Reader:
    """Turns llama.cpp's objects into events; keeps the tool calls, which come in parts."""

    stops: Sequence[str] = ()
    """Stop words that llama.cpp does not look for."""
    _calls: dict[int, dict[str, str]] = field(default_factory=dict)
    _reason: str = ""
    _stop_word: str | None = None
    _prompt_tokens: int = 0
    _held: list[int] = field(default_factory=list)
    _content: Stops = field(init=False)
    _thinking: Stops = field(init=False)

    def __post_init__(self) -> None:
        """Thoughts and text come interleaved; a stop word stands in one of them."""
        self._content, self._thinking = Stops(self.stops), Stops(self.stops)

    def read(self, item: Mapping[str, Any]) -> Iterator[Event]:
        """Yield what one object of the stream says; the progress of the prompt is only remembered."""
        if "prompt_progress" in item:
            self._prompt_tokens = item["prompt_progress"].get("total", 0)
        elif "choices" in item:
            yield from self._read_chat(item)
        elif item.get("stop"):
            yield from self._piece(item, ())
            limited = item.get("stop_type") == "limit"
            reason, word = "length" if limited else "stop", str(item.get("stopping_word", ""))
            held = tuple(self._held) if limited else ()
            yield _end(reason, item.get("timings", {}), stop_word=word, held=held)
        else:
            self._held = [] if item.get("content") else [*self._held, *item.get("tokens", ())]
            yield from self._piece(item, item.get("completion_probabilities") or ())

    def _read_chat(self, item: Mapping[str, Any]) -> Iterator[Event]:
        for choice in item["choices"]:
            delta = choice.get("delta") or {}
            for call in delta.get("tool_calls") or ():
                self._collect(call)
            yield from self._piece(self._before_stop(delta), (choice.get("logprobs") or {}).get("content"))
            self._reason = choice.get("finish_reason") or self._reason
        if self._stop_word is not None:
            yield _end("stop", item.get("timings", {}), stop_word=self._stop_word)
        elif self._reason and "timings" in item:
            yield from self._piece(
                {"content": self._content.end(), "reasoning_content": self._thinking.end()}, ()
            )
            calls = tuple(_whole_call(index, call) for index, call in sorted(self._calls.items()))
            yield _end(_REASONS.get(self._reason, "stop"), item["timings"], tool_calls=calls)

    def _before_stop(self, delta: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the delta up to a stop word, without what may be the beginning of one."""
        if not self.stops:
            return delta
        thinking, first = self._thinking.add(delta.get("reasoning_content") or "")
        content, second = ("", None) if first is not None else self._content.add(delta.get("content") or "")
        self._stop_word = second if first is None else first
        return {"content": content, "reasoning_content": thinking}

    def _piece(self, item: Mapping[str, Any], logprobs: Any) -> Iterator[Piece]:  # noqa: ANN401 -- any JSON
        content, thinking = item.get("content") or "", item.get("reasoning_content") or ""
        told = tuple(logprob for logprob in logprobs or () if logprob.get("bytes"))  # the end has no text
        if content or thinking or told:
            yield Piece(content=content, thinking=thinking, logprobs=told, prompt_tokens=self._prompt_tokens)

    def _collect(self, call: Mapping[str, Any]) -> None:
        parts = self._calls.setdefault(call.get("index", 0), {"id": "", "name": "", "arguments": ""})
        function = call.get("function") or {}
        parts["id"] = call.get("id") or parts["id"]
        parts["name"] += function.get("name") or ""
        parts["arguments"] += function.get("arguments") or ""


def _end(reason: str, timings: Mapping[str, Any], **more: Any) -> End:  # noqa: ANN401 -- fields of End
    return End(
        reason=reason,
        prompt_tokens=timings.get("prompt_n", 0) + timings.get("cache_n", 0),
        prompt_ns=_nanoseconds(timings.get("prompt_ms", 0.0)),
        answer_tokens=timings.get("predicted_n", 0),
        answer_ns=_nanoseconds(timings.get("predicted_ms", 0.0)),
        **more,
    )


def _whole_call(index: int, call: Mapping[str, str]) -> dict[str, Any]:
    try:
        arguments = json.loads(call["arguments"] or "{}")
    except ValueError:  # the answer was cut off inside of it
        arguments = {}
    return {"id": call["id"], "function": {"index": index, "name": call["name"], "arguments": arguments}}


def _nanoseconds(milliseconds: float) -> int:
    return max(0, int(milliseconds * _NANOSECONDS_PER_MS))
