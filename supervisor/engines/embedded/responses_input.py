"""The input of OpenAI's Responses API as a native chat body. Pure.

Source: Ollama 0.24 `openai/responses.go`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from supervisor.contract.go_json import mismatch, syntax_error
from supervisor.engines.embedded.failures import BAD_REQUEST, ApiError
from supervisor.engines.embedded.nested import (
    NO_OBJECT,
    RESPONSES_CALL,
    RESPONSES_IMAGE_PART,
    RESPONSES_ITEM,
    RESPONSES_OUTPUT,
    RESPONSES_PART,
    RESPONSES_SAID_PART,
    RESPONSES_TEXT_PART,
    RESPONSES_THOUGHTS,
    Place,
    Shape,
    checked,
    tool_parameters,
)
from supervisor.engines.embedded.openai import image_of, think_of

_TEXTS: Final = ("input_text", "output_text")
_PARTS: Final = (*_TEXTS, "input_image", "input_file")

Item = Mapping[str, Any]
Messages = list[dict[str, Any]]


def to_chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the native chat body of a /v1/responses body.

    Raises:
        ApiError: 400, an item of the input or the effort is not acceptable.
    """
    native: dict[str, Any] = {
        "model": body.get("model", ""),
        "messages": _messages(body),
        "options": _options(body),
    }
    if tools := body.get("tools"):
        native["tools"] = [_tool(tool) for tool in tools]
    form = body.get("text", {}).get("format") or {}
    if form.get("type") == "json_schema" and form.get("schema") is not None:
        native["format"] = form["schema"]
    effort = body.get("reasoning", {}).get("effort")
    return native | ({"think": think_of(effort, quote='"')} if effort else {})


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    names = {"top_p": "top_p", "temperature": "temperature", "max_output_tokens": "num_predict"}
    return {"temperature": 1.0} | {ours: body[theirs] for theirs, ours in names.items() if theirs in body}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": tool.get("name", ""), "description": tool.get("description") or ""}
    parameters = tool_parameters(tool.get("parameters"), "failed to unmarshal tool parameters")
    return {"type": tool.get("type", ""), "function": function | {"parameters": parameters}}


def _messages(body: Mapping[str, Any]) -> Messages:
    messages: Messages = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    given = body.get("input", "")
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}] if given else messages
    if not isinstance(given, list):
        raise _refused("input must be a string or array", given)
    for n, item in enumerate(given):
        place = f"input[{n}]"
        kind = _type_of(item, place)
        _ITEMS[kind](messages, _read(item, _SHAPES[kind], place), place)
    return messages


def _read(value: object, shape: Shape, place: str) -> Item:
    """Return an item or a part of one, checked."""
    try:
        found: Item = checked(value, shape, Place())
    except ApiError as error:
        raise ApiError(BAD_REQUEST, f"{place}: {error.text}") from error
    return found


def _type_of(item: object, place: str) -> str:
    """Return the type of an item; one that has only a role is a message."""
    item = _read({} if item is None else item, RESPONSES_ITEM, place)
    kind = item.get("type") or ("message" if item.get("role") else "")
    if not kind:
        raise ApiError(BAD_REQUEST, f"{place}: input item missing required 'type' field")
    if kind not in _ITEMS:
        raise ApiError(BAD_REQUEST, f"{place}: unknown input item type: {json.dumps(kind)}")
    return str(kind)


def _add_message(messages: Messages, item: Item, place: str) -> None:
    content, images = _content(item.get("content"), f"{place}: content", "content")
    said = {"role": item.get("role", ""), "content": content, "images": images}
    thinking = _pending(messages)
    if said["role"] == "assistant" and thinking:
        messages[-1] = said | {"thinking": thinking}
    else:
        messages.append(said)


def _add_reasoning(messages: Messages, item: Item, place: str) -> None:  # noqa: ARG001 -- one of a table
    """Keep the thoughts for the answer that they belong to, which comes next."""
    if thinking := item.get("encrypted_content"):
        messages.append({"role": "assistant", "content": "", "thinking": thinking})


def _add_call(messages: Messages, item: Item, place: str) -> None:  # noqa: ARG001 -- one of a table
    try:
        arguments = json.loads(item.get("arguments") or "{}")
    except ValueError as error:
        wrong = syntax_error(item["arguments"])
        raise ApiError(BAD_REQUEST, f"failed to parse function call arguments: {wrong}") from error
    if not isinstance(arguments, dict | None):
        raise ApiError(BAD_REQUEST, f"failed to parse function call arguments: {NO_OBJECT}")
    function = {"name": item.get("name", ""), "arguments": arguments or {}}
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    calls = messages[-1].setdefault("tool_calls", [])
    calls.append({"id": item.get("call_id", ""), "function": function})


def _add_output(messages: Messages, item: Item, place: str) -> None:
    content, images = _content(item.get("output"), f"{place}: output", "output")
    call = item.get("call_id", "")
    messages.append({"role": "tool", "content": content, "images": images, "tool_call_id": call})


_ITEMS: Final[Mapping[str, Callable[[Messages, Item, str], None]]] = {
    "message": _add_message,
    "reasoning": _add_reasoning,
    "function_call": _add_call,
    "function_call_output": _add_output,
}
_SHAPES: Final[Mapping[str, Shape]] = {
    "message": RESPONSES_ITEM,
    "reasoning": RESPONSES_THOUGHTS,
    "function_call": RESPONSES_CALL,
    "function_call_output": RESPONSES_OUTPUT,
}
_PART_SHAPES: Final[Mapping[str, Shape]] = {
    "input_text": RESPONSES_TEXT_PART,
    "output_text": RESPONSES_SAID_PART,
    "input_image": RESPONSES_IMAGE_PART,
}


def _pending(messages: Messages) -> str:
    """Return the thoughts of an answer that has nothing else yet."""
    last = messages[-1] if messages else {}
    bare = not last.get("content") and not last.get("tool_calls")
    return str(last.get("thinking", "")) if bare else ""


def _content(content: object, place: str, name: str) -> tuple[str, list[str]]:
    """Return the texts and the images of a content."""
    if content is None or isinstance(content, str):
        return content or "", []
    if not isinstance(content, list):
        raise _refused(f"{place.removesuffix(name)}{name} must be a string or array", content)
    parts = [_part(part, f"{place}[{n}]") for n, part in enumerate(content)]
    return "".join(part.get("text", "") for part in parts), _images(parts)


def _part(part: object, place: str) -> Item:
    kind = _read({} if part is None else part, RESPONSES_PART, place).get("type", "")
    if kind not in _PARTS:
        raise ApiError(BAD_REQUEST, f"{place}: unknown content type: {kind}")
    if kind == "input_file":
        raise ApiError(BAD_REQUEST, "file inputs are not currently supported")
    return _read(part, _PART_SHAPES[kind], place)


def _images(parts: Sequence[Item]) -> list[str]:
    return [image_of(part["image_url"]) for part in parts if part.get("image_url")]


def _refused(what: str, value: object) -> ApiError:
    return ApiError(BAD_REQUEST, f"{what}: {mismatch(value, '[]json.RawMessage')}")
