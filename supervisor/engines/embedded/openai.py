"""OpenAI's surface in terms of the native one: requests to native bodies, native frames to chunks. Pure.

That is how Ollama does it too, so its oddities come along: zero usage in every completion chunk, no
`max_completion_tokens`, temperature and top_p of 1 unless given.

Source: Ollama 0.24 `openai/openai.go` and `middleware/openai.go`.
"""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from supervisor.contract.go_json import go_type
from supervisor.engines.embedded.bodies import check_base64
from supervisor.engines.embedded.failures import BAD_REQUEST, NOT_FOUND, NOT_IMPLEMENTED, ApiError
from supervisor.engines.embedded.frames import Frame
from supervisor.engines.embedded.rendering import encode

_FINGERPRINT: Final = "fp_ollama"
_BAD_ARGUMENTS: Final = "invalid tool call arguments"
_EFFORTS: Final = ("high", "medium", "low", "max", "none")
_ENCODINGS: Final = ("float", "base64")
_ERROR_TYPES: Final = {
    BAD_REQUEST: "invalid_request_error",
    NOT_FOUND: "not_found_error",
    NOT_IMPLEMENTED: "not_supported_error",
}
_IMAGE_HEADS: Final = (
    "data:;base64",
    *(f"data:image/{kind};base64" for kind in ("jpeg", "jpg", "png", "webp")),
)
_DONE: Final = b"data: [DONE]\n\n"


def error_body(status: int, text: str) -> dict[str, Any]:
    """Return OpenAI's error object."""
    kind = _ERROR_TYPES.get(status, "api_error")
    return {"error": {"message": text, "type": kind, "param": None, "code": None}}


def to_chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the native chat body of a /v1/chat/completions body.

    Raises:
        ApiError: 400, messages or a value in them are not acceptable.
    """
    if not body.get("messages"):
        raise ApiError(BAD_REQUEST, "[] is too short - 'messages'")
    native = {
        "model": body.get("model", ""),
        "messages": _messages(body["messages"]),
        "options": _chat_options(body),
        "format": _format(body.get("response_format") or {}),
        "tools": body.get("tools", []),
        "logprobs": body.get("logprobs", False),
        "top_logprobs": body.get("top_logprobs", 0),
    }
    effort = (body.get("reasoning") or {}).get("effort") or body.get("reasoning_effort")
    return native | ({} if not effort else {"think": think_of(effort)})


def to_generate(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the native generate body of a /v1/completions body.

    Raises:
        ApiError: 400, a stop value is no text.
    """
    options = {
        **_given(body, {"max_tokens": "num_predict", "seed": "seed", "temperature": "temperature"}),
        "frequency_penalty": body.get("frequency_penalty", 0.0),
        "presence_penalty": body.get("presence_penalty", 0.0),
        "top_p": body.get("top_p") or 1.0,
    }
    options.setdefault("temperature", 1.0)
    logprobs = body.get("logprobs", 0)
    return {
        "model": body.get("model", ""),
        "prompt": body.get("prompt", ""),
        "suffix": body.get("suffix", ""),
        "options": options | _stop(body.get("stop"), strict=True),
        "logprobs": logprobs > 0,
        "top_logprobs": max(0, logprobs),
    }


def to_embed(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the native embed body of a /v1/embeddings body.

    Raises:
        ApiError: 400, no input or an unknown encoding.
    """
    encoding = body.get("encoding_format", "")
    if encoding and encoding.lower() not in _ENCODINGS:
        supported = "Supported values: ['float', 'base64']."
        raise ApiError(BAD_REQUEST, f"Invalid value for 'encoding_format' = {encoding}. {supported}")
    given = body.get("input")
    if given is None or given == []:
        raise ApiError(BAD_REQUEST, "invalid input")
    native = {"model": body.get("model", ""), "input": [""] if given == "" else given}
    return native | _given(body, {"dimensions": "dimensions"})


def embedding_list(model: str, answer: Mapping[str, Any], encoding: str) -> dict[str, Any]:
    """Return the answer of /v1/embeddings."""
    vectors = answer["embeddings"]
    tokens = answer.get("prompt_eval_count", 0)
    coded = [_base64(v) if encoding.lower() == "base64" else v for v in vectors]
    return {
        "object": "list",
        "data": [{"object": "embedding", "embedding": v, "index": i} for i, v in enumerate(coded)],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def model_entry(name: str, owner: str, created: int) -> dict[str, Any]:
    """Return a model as /v1/models lists it."""
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


@dataclass(slots=True, kw_only=True)
class ChatRendering:
    """/v1/chat/completions."""

    id: str
    created: int
    """Seconds since the epoch."""
    include_usage: bool
    stream_type: str = "text/event-stream"
    whole_type: str = "application/json"
    one_is_streamed: bool = True
    _called: bool = False

    def chunk(self, frame: Frame) -> bytes:
        """Return the events of one frame."""
        message = frame["message"]
        calls = message.get("tool_calls") or []
        self._called = self._called or bool(calls)
        reason = frame.get("done_reason")
        choice = {
            "index": 0,
            "delta": _message(message, calls),
            "finish_reason": "tool_calls" if reason and self._called else reason,
        } | _logprobs(frame)
        events = [_event(self._head("chat.completion.chunk", frame) | {"choices": [choice]})]
        if frame["done"]:
            if self.include_usage:
                last = self._head("chat.completion.chunk", frame)
                events.append(_event(last | {"choices": [], "usage": _usage(frame)}))
            events.append(_DONE)
        return b"".join(events)

    def whole(self, frame: Frame) -> dict[str, Any]:
        """Return the one object."""
        message = frame["message"]
        calls = message.get("tool_calls") or []
        reason = "tool_calls" if calls else frame.get("done_reason")
        choice = {"index": 0, "message": _message(message, calls), "finish_reason": reason} | _logprobs(frame)
        return self._head("chat.completion", frame) | {"choices": [choice], "usage": _usage(frame)}

    def broken(self, text: str) -> bytes:
        """Return the error event; no [DONE] follows."""
        return _event(error_body(500, text))

    def _head(self, kind: str, frame: Frame) -> dict[str, Any]:
        return _head(self.id, kind, self.created, frame)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRendering:
    """/v1/completions."""

    id: str
    created: int
    include_usage: bool
    stream_type: str = "text/event-stream"
    whole_type: str = "application/json"
    one_is_streamed: bool = True

    def chunk(self, frame: Frame) -> bytes:
        """Return the events of one frame."""
        usage = {"usage": _usage({})} if self.include_usage else {}
        events = [_event(self._head(frame) | {"choices": [_text_choice(frame)]} | usage)]
        if frame["done"]:
            if self.include_usage:
                events.append(_event(self._head(frame) | {"choices": [], "usage": _usage(frame)}))
            events.append(_DONE)
        return b"".join(events)

    def whole(self, frame: Frame) -> dict[str, Any]:
        """Return the one object."""
        return self._head(frame) | {"choices": [_text_choice(frame)], "usage": _usage(frame)}

    def broken(self, text: str) -> bytes:
        """Return the error event; no [DONE] follows."""
        return _event(error_body(500, text))

    def _head(self, frame: Frame) -> dict[str, Any]:
        return _head(self.id, "text_completion", self.created, frame)


def _head(id_: str, kind: str, created: int, frame: Frame) -> dict[str, Any]:
    return {
        "id": id_,
        "object": kind,
        "created": created,
        "model": frame["model"],
        "system_fingerprint": _FINGERPRINT,
    }


def _event(value: object) -> bytes:
    return b"data: " + encode(value) + b"\n\n"


def _text_choice(frame: Frame) -> dict[str, Any]:
    return {"text": frame["response"], "index": 0, "finish_reason": frame.get("done_reason")}


def _message(message: Mapping[str, Any], calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {"role": "assistant", "content": message["content"]}
    if message.get("thinking"):
        told["reasoning"] = message["thinking"]
    return told | ({"tool_calls": [tool_call(call) for call in calls]} if calls else {})


def tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a native tool call as OpenAI's, whose arguments are a text."""
    function = call["function"]
    arguments = json.dumps(function["arguments"], ensure_ascii=False, separators=(",", ":"))
    named = {"name": function["name"], "arguments": arguments}
    return {"id": call["id"], "index": function["index"], "type": "function", "function": named}


def _logprobs(frame: Frame) -> dict[str, Any]:
    return {"logprobs": {"content": frame["logprobs"]}} if frame.get("logprobs") else {}


def _usage(frame: Mapping[str, Any]) -> dict[str, int]:
    prompt, answer = frame.get("prompt_eval_count", 0), frame.get("eval_count", 0)
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(array("f", vector).tobytes()).decode("ascii")


def _given(body: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: body[theirs] for theirs, ours in names.items() if theirs in body}


def _chat_options(body: Mapping[str, Any]) -> dict[str, Any]:
    names = {"max_tokens": "num_predict"} | {
        name: name for name in ("temperature", "seed", "frequency_penalty", "presence_penalty", "top_p")
    }
    return {"temperature": 1.0, "top_p": 1.0} | _given(body, names) | _stop(body.get("stop"), strict=False)


def _stop(stop: Any, *, strict: bool) -> dict[str, Any]:  # noqa: ANN401 -- any JSON
    if isinstance(stop, str):
        return {"stop": [stop]}
    if not isinstance(stop, list):
        return {}
    wrong = [item for item in stop if not isinstance(item, str)]
    if strict and wrong:
        raise ApiError(BAD_REQUEST, f"invalid type for 'stop' field: {go_type(wrong[0])}")
    return {"stop": [item for item in stop if isinstance(item, str)]}


def _format(response_format: Mapping[str, Any]) -> Any:  # noqa: ANN401 -- a JSON schema
    match str(response_format.get("type", "")).strip().lower():
        case "json_object":
            return "json"
        case "json_schema":
            return (response_format.get("json_schema") or {}).get("schema")
        case _:
            return None


def think_of(effort: str, quote: str = "'") -> bool | str:
    """Return the native `think` of an effort.

    Raises:
        ApiError: 400, it is none; the text has it between `quote`.
    """
    if effort not in _EFFORTS:
        allowed = '"high", "medium", "low", "max", or "none"'
        raise ApiError(BAD_REQUEST, f"invalid reasoning value: {quote}{effort}{quote} (must be {allowed})")
    return False if effort == "none" else effort


def _messages(messages: Sequence[Any]) -> list[dict[str, Any]]:
    native: list[dict[str, Any]] = []
    for message in messages:
        if not isinstance(message, dict):
            raise ApiError(BAD_REQUEST, "invalid message format")
        native.extend(_parts(message, _tool_name(messages, message)))
    return native


def _parts(message: Mapping[str, Any], tool_name: str) -> list[dict[str, Any]]:
    """One message becomes one, or one for each part of its content."""
    content = message.get("content")
    calls = [_native_call(call) for call in message.get("tool_calls") or ()]
    role = str(message.get("role", ""))
    extra = {"tool_calls": calls, "tool_call_id": message.get("tool_call_id", ""), "tool_name": tool_name}
    extra |= {"thinking": message.get("reasoning", "")}
    if isinstance(content, str):
        return [{"role": role, "content": content, **extra}]
    if isinstance(content, list):
        parts = [_part(role, part) for part in content]
        return [*parts[:-1], parts[-1] | extra] if parts and calls else parts
    if "tool_calls" not in message:
        raise ApiError(BAD_REQUEST, f"invalid message content type: {go_type(content)}")
    return [{"role": role, "content": "", **extra}]


def _part(role: str, part: Any) -> dict[str, Any]:  # noqa: ANN401 -- any JSON
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"role": role, "content": part["text"]}
    if kind == "image_url":
        return {"role": role, "content": "", "images": [image_of(part.get("image_url"))]}
    raise ApiError(BAD_REQUEST, "invalid message format")


def image_of(image: Any) -> str:  # noqa: ANN401 -- any JSON
    """Return the base64 data of an `image_url`.

    Raises:
        ApiError: 400, it is an address elsewhere, or no image.
    """
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str):
        raise ApiError(BAD_REQUEST, "invalid message format")
    if url.startswith(("http://", "https://")):
        text = "image URLs are not currently supported, please use base64 encoded data instead"
        raise ApiError(BAD_REQUEST, text)
    head, comma, data = url.partition(",")
    if not comma or head not in _IMAGE_HEADS:
        raise ApiError(BAD_REQUEST, "invalid image input")
    try:
        check_base64(data)
    except ApiError as error:
        raise ApiError(BAD_REQUEST, "invalid image input") from error
    return data


def _tool_name(messages: Sequence[Any], message: Mapping[str, Any]) -> str:
    if str(message.get("role", "")).lower() != "tool":
        return ""
    wanted = message.get("tool_call_id")
    calls = [c for m in messages if isinstance(m, dict) for c in m.get("tool_calls") or ()]
    named = [c.get("function", {}).get("name", "") for c in calls if wanted and c.get("id") == wanted]
    return str(message.get("name") or (named[-1] if named else ""))


def _native_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    try:
        arguments = json.loads(function.get("arguments", ""))
    except ValueError as error:
        raise ApiError(BAD_REQUEST, _BAD_ARGUMENTS) from error
    if not isinstance(arguments, dict | None):
        raise ApiError(BAD_REQUEST, _BAD_ARGUMENTS)
    named = {"name": function.get("name", ""), "arguments": arguments or {}}
    return {"id": call.get("id", ""), "function": named}
