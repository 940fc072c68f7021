"""Anthropic's Messages API in terms of the native chat: bodies one way, frames the other. Pure.

That is how Ollama does it too; its frames are those of this file. It differs where Anthropic's own API tells
more and we know it: the length of the prompt in `message_start`, the stop sequence that ended an answer, and
an empty list for an empty answer.

Source: Ollama 0.24 `anthropic/anthropic.go` and `middleware/anthropic.go`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from supervisor.contract.go_json import mismatch
from supervisor.engines.embedded.bodies import check_base64
from supervisor.engines.embedded.failures import BAD_REQUEST, ApiError
from supervisor.engines.embedded.frames import Frame
from supervisor.engines.embedded.nested import BLOCK, BLOCK_PLACE, ListOf, checked, tool_parameters
from supervisor.engines.embedded.rendering import named_event

_ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_STOP_REASONS: Final = {"stop": "end_turn", "length": "max_tokens"}
_EFFORTS: Final = {"high": "high", "medium": "medium", "low": "low", "max": "max", "xhigh": "high"}
_FIELD: Final = "MessagesRequest.messages"
_SEARCH: Final = "web_search"
_SEARCH_TOOL: Final = {
    "type": "function",
    "function": {
        "name": _SEARCH,
        "description": "Search the web for current information. "
        "Use this to find up-to-date information about any topic.",
        "parameters": {
            "type": "object",
            "required": ["query"],
            "properties": {
                "query": {"type": "string", "description": "The search query to look up on the web"}
            },
        },
    },
}
"""What Anthropic's own tool is to a model that runs here. The client is told of the call as of any other."""

Block = Mapping[str, Any]


def error_body(status: int, text: str, request_id: str) -> dict[str, Any]:
    """Return Anthropic's error object."""
    return {"type": "error", "error": _error(status, text), "request_id": request_id}


def to_chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the native chat body of a /v1/messages body.

    Raises:
        ApiError: 400, something that Anthropic requires is missing, or a block is not acceptable.
    """
    _require(body, "model", "model is required")
    if body.get("max_tokens", 0) <= 0:
        raise ApiError(BAD_REQUEST, "max_tokens is required and must be positive")
    return prompt_of(body) | {"options": _options(body)}


def prompt_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return model, messages, tools and thinking of a body of /v1/messages or count_tokens.

    Raises:
        ApiError: 400, the model or messages are missing, or a block is not acceptable.
    """
    _require(body, "model", "model is required")
    _require(body, "messages", "messages is required")
    native: dict[str, Any] = {"model": body["model"], "messages": _messages(body)}
    if tools := list(_tools(body.get("tools", ()))):
        native["tools"] = tools
    think = _think(body)
    return native if think is None else native | {"think": think}


@dataclass(slots=True, kw_only=True)
class MessagesRendering:
    """/v1/messages."""

    id: str
    stops: Sequence[str] = ()
    """The request's stop sequences; the model may have others."""
    stream_type: str = "text/event-stream"
    whole_type: str = "application/json"
    one_is_streamed: bool = True
    _begun: bool = False
    _index: int = 0
    _open: str = ""
    """Kind of the block that is being sent: text, thinking or none."""
    _called: bool = False

    def chunk(self, frame: Frame) -> bytes:
        """Return the events of one frame."""
        return b"".join(named_event(event["type"], event) for event in self._events(frame))

    def whole(self, frame: Frame) -> dict[str, Any]:
        """Return the one object."""
        message, content = frame["message"], list[dict[str, Any]]()
        if message.get("thinking"):
            content.append({"type": "thinking", "thinking": message["thinking"]})
        if message["content"]:
            content.append({"type": "text", "text": message["content"]})
        calls = message.get("tool_calls", ())
        content += [_use(call, call["function"]["arguments"]) for call in calls]
        head = self._head(frame, content)
        return head | self._end(frame, called=bool(calls)) | {"usage": _usage(frame)}

    def broken(self, text: str) -> bytes:
        """Return the error event; no message_stop follows."""
        return named_event("error", {"type": "error", "error": _error(500, text)})

    def _events(self, frame: Frame) -> Iterator[dict[str, Any]]:
        message = frame["message"]
        if not self._begun:
            self._begun = True
            start = self._head(frame, []) | {"usage": _usage(frame) | {"output_tokens": 0}}
            yield {"type": "message_start", "message": start}
        for kind, text in (("thinking", message.get("thinking")), ("text", message["content"])):
            if text:
                yield from self._opened(kind)
                yield self._delta({"type": f"{kind}_delta", kind: text})
        for call in message.get("tool_calls", ()):
            yield from self._tool(call)
        if frame["done"]:
            yield from self._closed()
            end = self._end(frame, called=self._called)
            yield {"type": "message_delta", "delta": end, "usage": _usage(frame)}
            yield {"type": "message_stop"}

    def _tool(self, call: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self._closed()
        self._called, self._open = True, "tool_use"
        yield self._start(_use(call, {}))
        arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False, separators=(",", ":"))
        yield self._delta({"type": "input_json_delta", "partial_json": arguments})
        yield from self._closed()

    def _opened(self, kind: str) -> Iterator[dict[str, Any]]:
        if self._open != kind:
            yield from self._closed()
            self._open = kind
            yield self._start({"type": kind, kind: ""})

    def _closed(self) -> Iterator[dict[str, Any]]:
        if self._open:
            yield {"type": "content_block_stop", "index": self._index}
            self._open = ""
            self._index += 1

    def _start(self, block: Block) -> dict[str, Any]:
        return {"type": "content_block_start", "index": self._index, "content_block": block}

    def _delta(self, delta: Mapping[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _head(self, frame: Frame, content: list[dict[str, Any]]) -> dict[str, Any]:
        head = {"id": self.id, "type": "message", "role": "assistant"}
        return head | {"model": frame["model"], "content": content}

    def _end(self, frame: Frame, *, called: bool) -> dict[str, Any]:
        """Return why the answer ended."""
        if called:
            return {"stop_reason": "tool_use"}
        if frame.get("stop_word") in self.stops:
            return {"stop_reason": "stop_sequence", "stop_sequence": frame["stop_word"]}
        return {"stop_reason": _STOP_REASONS.get(frame["done_reason"], "end_turn")}


def _error(status: int, text: str) -> dict[str, str]:
    return {"type": _ERROR_TYPES.get(status, "api_error"), "message": text}


def _require(body: Mapping[str, Any], name: str, text: str) -> None:
    if not body.get(name):
        raise ApiError(BAD_REQUEST, text)


def _usage(frame: Frame) -> dict[str, int]:
    return {"input_tokens": frame.get("prompt_eval_count", 0), "output_tokens": frame.get("eval_count", 0)}


def _use(call: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": given}


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body}
    stop = {"stop": body["stop_sequences"]} if body.get("stop_sequences") else {}
    return options | stop | {"num_predict": body["max_tokens"]}


def _think(body: Mapping[str, Any]) -> bool | str | None:
    kind = body.get("thinking", {}).get("type")
    if kind in ("enabled", "disabled"):
        return bool(kind == "enabled")
    return _EFFORTS.get(str(body.get("output_config", {}).get("effort", "")).strip().lower())


def _tools(tools: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    searches = any(_searches(tool) for tool in tools)
    for tool in tools:
        if _searches(tool):
            yield _SEARCH_TOOL
        elif not (searches and tool.get("name") == _SEARCH):
            name = tool.get("name", "")
            schema = tool_parameters(
                tool.get("input_schema"), f"invalid input_schema for tool {json.dumps(name)}"
            )
            function = {"name": name, "description": tool.get("description", ""), "parameters": schema}
            yield {"type": "function", "function": function}


def _searches(tool: Mapping[str, Any]) -> bool:
    return str(tool.get("type", "")).startswith(_SEARCH)


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    system = _texts(body.get("system"))
    native = [{"role": "system", "content": system}] if system else []
    for message in body["messages"]:
        native.extend(_message(message))
    return native


def _texts(content: object) -> str:
    """Return the texts of a content that is a text or a list of blocks."""
    if isinstance(content, str):
        return content
    blocks = [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []
    return "".join(b["text"] for b in blocks if b.get("type") == "text" and isinstance(b.get("text"), str))


def _message(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one message and those of the tools whose results it carries."""
    if "content" not in message:
        raise ApiError(BAD_REQUEST, "messages: content is required")
    role, content = str(message.get("role", "")).lower(), message["content"]
    content = [] if content is None else content
    if not isinstance(content, (str, list)):
        raise ApiError(BAD_REQUEST, mismatch(content, "[]anthropic.ContentBlock", _FIELD))
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    blocks = checked(blocks, ListOf(BLOCK), BLOCK_PLACE)
    results = [_result(b) for b in blocks if b.get("type") in ("tool_result", "web_search_tool_result")]
    thoughts = [b.get("thinking") or "" for b in blocks if b.get("type") == "thinking"]
    said: dict[str, Any] = {
        "content": _texts(blocks),
        "images": _images(blocks),
        "tool_calls": [_call(b) for b in blocks if b.get("type") in ("tool_use", "server_tool_use")],
        "thinking": thoughts[-1] if thoughts else "",
    }
    own = [{"role": role} | said] if any(said.values()) else []
    return [*results, *own] if role == "user" else [*own, *results]


def _images(blocks: Sequence[Block]) -> list[str]:
    return [_image(b.get("source")) for b in blocks if b.get("type") == "image"]


def _image(source: object) -> str:
    if not isinstance(source, dict):
        raise ApiError(BAD_REQUEST, "invalid image source")
    if source.get("type") != "base64":
        kind = source.get("type", "")
        text = f"invalid image source type: {kind}. Only base64 images are supported."
        raise ApiError(BAD_REQUEST, text)
    data = str(source.get("data", ""))
    try:
        check_base64(data)
    except ApiError as error:
        raise ApiError(BAD_REQUEST, f"invalid base64 image data: {error.text}") from error
    return data


def _call(block: Block) -> dict[str, Any]:
    for name in ("id", "name"):
        if block["type"] == "tool_use" and not block.get(name):
            raise ApiError(BAD_REQUEST, f"tool_use block missing required '{name}' field")
    function = {"name": block.get("name", ""), "arguments": block.get("input") or {}}
    return {"id": block.get("id", ""), "function": function}


def _result(block: Block) -> dict[str, Any]:
    content, told = block.get("content"), {"role": "tool", "tool_call_id": block.get("tool_use_id", "")}
    if block["type"] != "tool_result":
        return told | {"content": _found(content)}
    inner = [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []
    return told | {"content": _texts(content), "images": _images(inner)}


def _found(content: object) -> str:
    """Return what a search on Anthropic's side found, as text."""
    if isinstance(content, str):
        return content
    results = [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []
    if results:
        return "".join(f"- {b.get('title', '')}: {b.get('url', '')}\n" for b in results)
    code = content.get("error_code") if isinstance(content, dict) else None
    return f"web_search_tool_result_error: {code}" if code else json.dumps(content)
