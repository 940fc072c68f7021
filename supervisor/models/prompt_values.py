"""What a prompt template sees of messages and tools: Go's structs, named and formed as in Ollama.

Decides field names, their order, and what prints itself as JSON. Pure.

Source: Ollama 0.24 `template/template.go` and `api/types.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from supervisor.models.gotemplate.values import (
    JsonList,
    JsonMap,
    Member,
    NilJsonList,
    NilJsonMap,
    NilList,
    OrderedMap,
    Struct,
    Words,
)

Message = Mapping[str, Any]


def collated(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """Return all system texts in one, and the messages with neighbours of one role made one.

    Answers of tools stay apart.
    """
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].get("role") == message.get("role") != "tool":
            last = merged[-1]
            merged[-1] = {**last, "content": f"{last.get('content', '')}\n\n{message.get('content', '')}"}
        else:
            merged.append(message)
    systems = [m.get("content", "") for m in messages if m.get("role") == "system"]
    return "\n\n".join(systems), merged


def message_values(messages: Iterable[Message]) -> list[Struct]:
    """Return what `.Messages` is."""
    return [_message(message) for message in messages]


def tool_values(tools: Sequence[Mapping[str, Any]] | None) -> JsonList:
    """Return what `.Tools` is; None is a list that prints as `null`."""
    return NilJsonList() if tools is None else JsonList(_tool(tool) for tool in tools)


def _message(message: Message) -> Struct:
    calls = [_call(call) for call in message.get("tool_calls") or ()]
    return Struct(
        "*template.templateMessage",
        (
            Member("Role", message.get("role", ""), ""),
            Member("Content", message.get("content", ""), ""),
            Member("Thinking", message.get("thinking", ""), ""),
            Member("Images", NilList(), ""),
            Member("ToolCalls", calls or NilList(), ""),
            Member("ToolName", message.get("tool_name", ""), ""),
            Member("ToolCallID", message.get("tool_call_id", ""), ""),
        ),
        pointer=True,
    )


def _call(call: Mapping[str, Any]) -> Struct:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    named = Struct(
        "template.templateToolCallFunction",
        (
            Member("Index", function.get("index", 0), ""),
            Member("Name", function.get("name", ""), ""),
            Member("Arguments", JsonMap(arguments if isinstance(arguments, dict) else {}), ""),
        ),
    )
    members = (Member("ID", call.get("id", ""), ""), Member("Function", named, ""))
    return Struct("template.templateToolCall", members)


def _tool(tool: Mapping[str, Any]) -> Struct:
    function = tool.get("function") or {}
    members = (
        Member("Name", function.get("name", ""), "name"),
        Member("Description", function.get("description", ""), "description"),
        Member("Parameters", _parameters(function.get("parameters") or {}), "parameters"),
    )
    return Struct(
        "template.templateTool",
        (
            Member("Type", tool.get("type", ""), "type"),
            Member("Items", tool.get("items"), "items", omit_empty=True),
            Member("Function", Struct("template.templateToolFunction", members), "function"),
        ),
    )


def _parameters(parameters: Mapping[str, Any]) -> Struct:
    inner = parameters.get("properties")
    properties = NilJsonMap() if inner is None else JsonMap({n: _property(p) for n, p in inner.items()})
    return Struct(
        "template.templateToolFunctionParameters",
        (
            Member("Type", parameters.get("type", ""), "type"),
            Member("Defs", parameters.get("$defs"), "$defs", omit_empty=True),
            Member("Items", parameters.get("items"), "items", omit_empty=True),
            Member("Required", list(parameters.get("required") or ()), "required", omit_empty=True),
            Member("Properties", properties, "properties"),
        ),
    )


def _property(described: Mapping[str, Any]) -> Struct:
    kind = described.get("type") or ()
    inner = described.get("properties")
    properties = None if inner is None else OrderedMap({n: _property(p) for n, p in inner.items()})
    return Struct(
        "api.ToolProperty",
        (
            Member("AnyOf", [_property(p) for p in described.get("anyOf") or ()], "anyOf", omit_empty=True),
            Member("Type", Words([kind] if isinstance(kind, str) else kind), "type", omit_empty=True),
            Member("Items", described.get("items"), "items", omit_empty=True),
            Member("Description", described.get("description", ""), "description", omit_empty=True),
            Member("Enum", list(described.get("enum") or ()), "enum", omit_empty=True),
            Member("Properties", properties, "properties", omit_empty=True),
            Member("Required", list(described.get("required") or ()), "required", omit_empty=True),
        ),
    )
