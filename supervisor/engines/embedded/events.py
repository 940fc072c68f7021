"""What llama.cpp's streams say, in one vocabulary for `/completion` and `/v1/chat/completions`. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_NANOSECONDS_PER_MS: Final = 1_000_000
_REASONS: Final = {"limit": "length", "length": "length"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of the answer."""

    content: str = ""
    thinking: str = ""
    logprobs: tuple[Mapping[str, Any], ...] = ()


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


Event = Piece | End


@dataclass(slots=True)
class Reader:
    """Turns llama.cpp's objects into events; keeps the tool calls, which come in parts."""

    _calls: dict[int, dict[str, str]] = field(default_factory=dict)
    _reason: str = ""

    def read(self, item: Mapping[str, Any]) -> Iterator[Event]:
        """Yield what one object of the stream says; progress of the prompt says nothing."""
        if "choices" in item:
            yield from self._read_chat(item)
        elif item.get("stop"):
            yield from _piece(item, ())
            reason = _REASONS.get(str(item.get("stop_type")), "stop")
            yield _end(reason, item.get("timings", {}), ())
        else:
            yield from _piece(item, item.get("completion_probabilities") or ())

    def _read_chat(self, item: Mapping[str, Any]) -> Iterator[Event]:
        for choice in item["choices"]:
            delta = choice.get("delta") or {}
            for call in delta.get("tool_calls") or ():
                self._collect(call)
            yield from _piece(delta, (choice.get("logprobs") or {}).get("content") or ())
            self._reason = choice.get("finish_reason") or self._reason
        if self._reason and "timings" in item:
            calls = tuple(_whole_call(index, call) for index, call in sorted(self._calls.items()))
            yield _end(_REASONS.get(self._reason, "stop"), item["timings"], calls)

    def _collect(self, call: Mapping[str, Any]) -> None:
        parts = self._calls.setdefault(call.get("index", 0), {"id": "", "name": "", "arguments": ""})
        function = call.get("function") or {}
        parts["id"] = call.get("id") or parts["id"]
        parts["name"] += function.get("name") or ""
        parts["arguments"] += function.get("arguments") or ""


def _piece(item: Mapping[str, Any], logprobs: Any) -> Iterator[Piece]:  # noqa: ANN401 -- any JSON
    content, thinking = item.get("content") or "", item.get("reasoning_content") or ""
    if content or thinking or logprobs:
        yield Piece(content=content, thinking=thinking, logprobs=tuple(logprobs))


def _end(reason: str, timings: Mapping[str, Any], calls: tuple[Mapping[str, Any], ...]) -> End:
    return End(
        reason=reason,
        prompt_tokens=timings.get("prompt_n", 0) + timings.get("cache_n", 0),
        prompt_ns=_nanoseconds(timings.get("prompt_ms", 0.0)),
        answer_tokens=timings.get("predicted_n", 0),
        answer_ns=_nanoseconds(timings.get("predicted_ms", 0.0)),
        tool_calls=calls,
    )


def _whole_call(index: int, call: Mapping[str, str]) -> dict[str, Any]:
    try:
        arguments = json.loads(call["arguments"] or "{}")
    except ValueError:  # the answer was cut off inside of it
        arguments = {}
    return {"id": call["id"], "function": {"index": index, "name": call["name"], "arguments": arguments}}


def _nanoseconds(milliseconds: float) -> int:
    return max(0, int(milliseconds * _NANOSECONDS_PER_MS))
