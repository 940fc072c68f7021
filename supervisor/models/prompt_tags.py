"""What a prompt template tells of the answers: the marks around thoughts and before tool calls. Pure.

A model answers in the form in which its template writes earlier answers. So the texts around
`.Thinking` inside a range over `.Messages` are the marks of its thoughts, and the first text under an
`if` over `.ToolCalls` is the mark before its calls.

Source: Ollama 0.24 `thinking/template.go` and `tools/template.go`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from supervisor.models.gotemplate.nodes import (
    Action,
    Branch,
    Branching,
    Field,
    Node,
    Pipe,
    Template,
    Text,
    arguments,
)

ANY_OBJECT: Final = "{"
"""The mark of a template that has none: each JSON object may be a call."""

_Nodes = tuple[Node, ...]


def thinking_marks(tree: Template) -> tuple[str, str]:
    """Return the marks before and after thoughts; both empty when the template has none."""
    first, last = "", ""
    for nodes in _lists_with_thinking(tree.nodes, in_messages=False):
        if isinstance(nodes[0], Text):
            first = nodes[0].text.strip()
        if isinstance(nodes[-1], Text):
            last = nodes[-1].text.strip()
    return (first, last) if first and last else ("", "")


def _lists_with_thinking(nodes: _Nodes, *, in_messages: bool) -> Iterator[_Nodes]:
    """Yield the innermost list around each mention of `.Thinking`."""
    for node in nodes:
        if isinstance(node, Action) and in_messages and _mentions(node.pipe, "Thinking"):
            yield nodes
        if isinstance(node, Branch):
            if in_messages and _mentions(node.pipe, "Thinking"):
                yield nodes
            ranges = node.kind is Branching.RANGE
            inside = _mentions(node.pipe, "Messages") if ranges else in_messages
            yield from _lists_with_thinking(node.body, in_messages=inside)
            yield from _lists_with_thinking(node.otherwise or (), in_messages=inside)


def _mentions(pipe: Pipe, name: str) -> bool:
    """Whether a field path of the pipeline begins with `name`."""
    return any(isinstance(found, Field) and found.path[0] == name for found in arguments(pipe))


def tool_mark(tree: Template) -> str:
    """Return the text before a tool call, or `ANY_OBJECT`."""
    branch = _tool_branch(tree.nodes)
    text = None if branch is None else _first_text(branch.body)
    if text is None:
        return ANY_OBJECT
    mark = text.replace("\r\n", "\n").partition("{")[0].strip()
    return mark or ANY_OBJECT


def _tool_branch(nodes: _Nodes) -> Branch | None:
    """Return the first `if` over `.ToolCalls`."""
    for node in nodes:
        if not isinstance(node, Branch):
            continue
        if node.kind is Branching.IF and _asks_for_calls(node.pipe):
            return node
        found = _tool_branch(node.body) or _tool_branch(node.otherwise or ())
        if found is not None:
            return found
    return None


def _asks_for_calls(pipe: Pipe) -> bool:
    args = (argument for command in pipe.commands for argument in command.args)
    return any(isinstance(argument, Field) and "ToolCalls" in argument.path for argument in args)


def _first_text(nodes: _Nodes) -> str | None:
    """Return the first text that is not blank, unless a value is written before it."""
    for node in nodes:
        if isinstance(node, Text) and node.text.strip():
            return node.text
        if isinstance(node, Branch):
            return _first_text(node.body) or _first_text(node.otherwise or ())
        if isinstance(node, Action):
            return None
    return None
