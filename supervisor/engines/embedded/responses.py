"""OpenAI's Responses API in terms of the native chat: native frames to its events and objects. Pure.

That is how Ollama does it too; its frames are those of this file. It keeps no responses, and an answer that
its limit ended is `completed` as well.

Source: Ollama 0.24 `openai/responses.go` and `middleware/openai.go`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from supervisor.engines.embedded.failures import INTERNAL
from supervisor.engines.embedded.frames import Frame
from supervisor.engines.embedded.openai import error_body, tool_call
from supervisor.engines.embedded.rendering import named_event

Item = dict[str, Any]

_TOOL_FIELDS: Final = ("type", "name", "description", "strict", "parameters")


@dataclass(slots=True, kw_only=True)
class ResponsesRendering:
    """/v1/responses."""

    number: int
    """Makes the ids of this response and its items."""
    created: int
    """Seconds since the epoch."""
    request: Mapping[str, Any]
    """The checked body, of which an answer repeats much."""
    stream_type: str = "text/event-stream"
    whole_type: str = "application/json"
    one_is_streamed: bool = True
    _sent: int = 0
    _output: list[Item] = field(default_factory=list)
    """Items that are complete."""
    _open: str = ""
    """Type of the item that is being sent: reasoning, message or none."""
    _text: str = ""
    """What was said of it."""
    _called: bool = False

    def chunk(self, frame: Frame) -> bytes:
        """Return the events of one frame."""
        return b"".join(self._numbered(event) for event in self._events(frame))

    def whole(self, frame: Frame) -> dict[str, Any]:
        """Return the one object."""
        message = frame["message"]
        output = [self._reasoning(message["thinking"])] if message.get("thinking") else []
        calls = message.get("tool_calls") or ()
        output += [self._function_call(n, call) for n, call in enumerate(calls)]
        output += [] if calls else [self._message(message["content"])]
        return self._completed(output, frame)

    def broken(self, text: str) -> bytes:
        """Return the error event: the fields that OpenAI documents, and the object that its clients raise."""
        error = {**error_body(INTERNAL, text)["error"], "code": "server_error"}
        return self._numbered({**error, "type": "error", "error": error})

    def _numbered(self, event: Item) -> bytes:
        numbered = event | {"sequence_number": self._sent}
        self._sent += 1
        return named_event(event["type"], numbered)

    def _events(self, frame: Frame) -> Iterator[Item]:
        message = frame["message"]
        if not self._sent:
            for kind in ("created", "in_progress"):
                yield {"type": f"response.{kind}", "response": self._response()}
        if message.get("thinking"):
            yield from self._thought(message["thinking"])
        for call in message.get("tool_calls") or ():
            yield from self._call(call)
        if message["content"] and not self._called:
            yield from self._said(message["content"])
        if frame["done"]:
            yield from self._closed()
            yield {"type": "response.completed", "response": self._completed(self._output, frame)}

    def _thought(self, text: str) -> Iterator[Item]:
        if self._open != "reasoning":
            yield from self._closed()
            self._open, self._text = "reasoning", ""
            item = {"id": self._id("rs"), "type": "reasoning", "summary": []}
            yield self._about("output_item.added", item=item)
        self._text += text
        yield self._about("reasoning_summary_text.delta", "rs", summary_index=0, delta=text)

    def _said(self, text: str) -> Iterator[Item]:
        if self._open != "message":
            yield from self._closed()
            self._open, self._text = "message", ""
            item = self._message("") | {"status": "in_progress", "content": []}
            yield self._about("output_item.added", item=item)
            yield self._about("content_part.added", "msg", content_index=0, part=_part(""))
        self._text += text
        yield self._about("output_text.delta", "msg", content_index=0, delta=text, logprobs=[])

    def _call(self, call: Mapping[str, Any]) -> Iterator[Item]:
        yield from self._closed()
        self._called = True
        item = self._function_call(len(self._output), call)
        arguments, named = item["arguments"], {"item_id": item["id"]}
        yield self._about("output_item.added", item=item | {"status": "in_progress", "arguments": ""})
        yield self._about("function_call_arguments.delta", delta=arguments, **named)
        yield self._about("function_call_arguments.done", arguments=arguments, **named)
        yield self._about("output_item.done", item=item)
        self._output.append(item)

    def _closed(self) -> Iterator[Item]:
        """End the item that is being sent."""
        text, kind, self._open = self._text, self._open, ""
        if kind == "reasoning":
            item = self._reasoning(text)
            yield self._about("reasoning_summary_text.done", "rs", summary_index=0, text=text)
        elif kind == "message":
            item = self._message(text)
            yield self._about("output_text.done", "msg", content_index=0, text=text, logprobs=[])
            yield self._about("content_part.done", "msg", content_index=0, part=_part(text))
        else:
            return
        yield self._about("output_item.done", item=item)
        self._output.append(item)

    def _about(self, kind: str, id_of: str = "", **fields: object) -> Item:
        """Return an event about the item that stands next in the output."""
        event = {"type": f"response.{kind}", "output_index": len(self._output), **fields}
        return event | ({"item_id": self._id(id_of)} if id_of else {})

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self.number}"

    def _reasoning(self, text: str) -> Item:
        item = {"id": self._id("rs"), "type": "reasoning"}
        return item | {"summary": [{"type": "summary_text", "text": text}], "encrypted_content": text}

    def _message(self, text: str) -> Item:
        item = {"id": self._id("msg"), "type": "message", "status": "completed", "role": "assistant"}
        return item | {"content": [_part(text)]}

    def _function_call(self, place: int, call: Mapping[str, Any]) -> Item:
        told = tool_call(call)
        item = {"id": f"{self._id('fc')}_{place}", "type": "function_call", "status": "completed"}
        return item | {"call_id": told["id"], **told["function"]}

    def _completed(self, output: Sequence[Item], frame: Frame) -> Item:
        moment = int(datetime.fromisoformat(frame["created_at"]).timestamp())
        told = {"status": "completed", "completed_at": moment, "output": list(output)}
        return self._response() | told | {"usage": _usage(frame)}

    def _response(self) -> Item:
        asked = self.request
        return {
            "id": self._id("resp"),
            "object": "response",
            "created_at": self.created,
            "completed_at": None,
            "status": "in_progress",
            "incomplete_details": None,
            "model": asked.get("model", ""),
            "previous_response_id": None,
            "instructions": asked.get("instructions") or None,
            "output": [],
            "error": None,
            "tools": [_tool_settings(tool) for tool in asked.get("tools", ())],
            "tool_choice": "auto",
            "truncation": asked.get("truncation", "disabled"),
            "parallel_tool_calls": True,
            "text": {"format": _format_settings(asked.get("text", {}).get("format"))},
            "top_p": asked.get("top_p", 1.0),
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "top_logprobs": 0,
            "temperature": asked.get("temperature", 1.0),
            "reasoning": _reasoning_settings(asked.get("reasoning", {})),
            "usage": None,
            "max_output_tokens": asked.get("max_output_tokens"),
            "max_tool_calls": None,
            "store": False,
            "background": asked.get("background", False),
            "service_tier": "default",
            "metadata": {},
            "safety_identifier": None,
            "prompt_cache_key": None,
        }


def _tool_settings(tool: Mapping[str, Any]) -> Item:
    return {name: tool.get(name) for name in _TOOL_FIELDS} | {
        name: tool.get(name, "") for name in ("type", "name")
    }


def _format_settings(asked: Mapping[str, Any] | None) -> Item:
    if asked is None:
        return {"type": "text"}
    given = {name: asked[name] for name in ("name", "schema", "strict") if asked.get(name) not in (None, "")}
    return {"type": asked.get("type", "")} | given


def _reasoning_settings(asked: Mapping[str, Any]) -> dict[str, Any] | None:
    given = {name: asked[name] for name in ("effort", "summary") if asked.get(name)}
    return given or None


def _part(text: str) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(frame: Frame) -> dict[str, Any]:
    read, written = frame.get("prompt_eval_count", 0), frame.get("eval_count", 0)
    return {
        "input_tokens": read,
        "output_tokens": written,
        "total_tokens": read + written,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
