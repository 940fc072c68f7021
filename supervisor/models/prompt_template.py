"""A model's prompt template under Ollama's rules: what it is given, and what older templates mean.

A template that names `.Messages` gets the whole conversation. One that does not is rendered once a turn
with `.System`, `.Prompt` and `.Response`; the last turn ends where its `.Response` begins. A template that
names neither gets `{{ .Response }}` at its end. Pure: the day is an argument.

Source: Ollama 0.24 `template/template.go`, cross-checked with the renderings of the real server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final

from supervisor.models.gotemplate.evaluate import execute
from supervisor.models.gotemplate.functions import NAMES, Functions, prompt_functions
from supervisor.models.gotemplate.lexer import TemplateError
from supervisor.models.gotemplate.nodes import (
    Action,
    Argument,
    Branch,
    Call,
    Command,
    Field,
    Node,
    Pipe,
    Template,
    Variable,
    arguments,
    pipes,
)
from supervisor.models.gotemplate.parser import parse
from supervisor.models.prompt_values import Message, collated, message_values, tool_values

DEFAULT_TEMPLATE: Final = "{{ .Prompt }}"
"""Of a model without a template layer."""
_RESPONSE: Final = Action(Pipe((Command((Field(("Response",)),), 0),)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What is to be rendered."""

    messages: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, Any], ...] | None = None
    prompt: str = ""
    """With `suffix`: the text before the gap."""
    suffix: str = ""
    think: bool | str | None = None
    """A level is a way of saying yes; None when nobody said anything."""
    today: date

    def _about_thinking(self) -> dict[str, Any]:
        level = self.think if isinstance(self.think, str) else "medium" if self.think else ""
        return {"Think": bool(self.think), "ThinkLevel": level, "IsThinkSet": self.think is not None}

    def gap(self) -> dict[str, Any]:
        """Return the values for a text with a gap."""
        return {"Prompt": self.prompt, "Suffix": self.suffix, "Response": ""} | self._about_thinking()

    def conversation(self) -> dict[str, Any]:
        """Return the values for a template that takes all messages."""
        system, messages = collated(self.messages)
        values = {"System": system, "Messages": message_values(messages), "Tools": tool_values(self.tools)}
        return values | {"Response": ""} | self._about_thinking()

    def rounds(self) -> Iterator[dict[str, Any]]:
        """Yield the values of each turn for a template that takes one; the last is to be answered."""
        said = {"system": "", "user": "", "assistant": ""}
        before = {"system": ("user", "assistant"), "user": ("assistant",)}
        for message in collated(self.messages)[1]:
            role = str(message.get("role", ""))
            if any(said[earlier] for earlier in before.get(role, ())):
                yield self._round(said)
                said = dict.fromkeys(said, "")
            if role in said:
                said[role] = message.get("content", "")
        yield self._round(said)

    def _round(self, said: Mapping[str, str]) -> dict[str, Any]:
        named = {"System": said["system"], "Prompt": said["user"], "Response": said["assistant"]}
        return named | self._about_thinking()


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """One parsed template."""

    source: str
    tree: Template
    names: frozenset[str]
    """The names it mentions, in lower case, without their place: `messages`, `tools`, `content` …"""

    @classmethod
    def parse(cls, source: str) -> PromptTemplate:
        """Return the template that `source` is.

        Raises:
            TemplateError: it is none, or uses what is not understood here.
        """
        tree = parse(source, NAMES)
        names = _names(tree)
        if not names & {"messages", "response"}:
            tree = replace(tree, nodes=(*tree.nodes, _RESPONSE))
        return cls(source, tree, names)

    def render(self, turn: Turn) -> str:
        """Return the prompt.

        Raises:
            TemplateError: a construct or a value that it cannot be rendered with.
        """
        yesterday = turn.today - timedelta(days=1)
        functions = prompt_functions(turn.today.isoformat(), yesterday.isoformat())
        if turn.prompt and turn.suffix:
            return execute(self.tree, turn.gap(), functions)
        if "messages" in self.names:
            return execute(self.tree, turn.conversation(), functions)
        return self._by_rounds(turn, functions)

    def _by_rounds(self, turn: Turn, functions: Functions) -> str:
        *earlier, last = turn.rounds()
        texts = [execute(self.tree, values, functions) for values in earlier]
        open_ended = replace(self.tree, nodes=until_response(self.tree.nodes))
        return "".join(texts) + execute(open_ended, last, functions)


def _names(tree: Template) -> frozenset[str]:
    names: set[str] = set()
    for nodes in (tree.nodes, *tree.defined.values()):
        _refuse_bare_calls(nodes)
        for pipe in pipes(nodes):
            names.update(name.lower() for argument in arguments(pipe) for name in _path(argument))
    return frozenset(names)


def _refuse_bare_calls(nodes: Sequence[Node]) -> None:
    for node in nodes:
        if isinstance(node, Call) and node.pipe is None:
            raise TemplateError(f'line {node.line}: {{{{ template "{node.name}" }}}} without a value')
        if isinstance(node, Branch):
            _refuse_bare_calls((*node.body, *(node.otherwise or ())))


def _path(argument: Argument) -> tuple[str, ...]:
    return argument.path if isinstance(argument, (Field, Variable)) else ()


def until_response(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Return the nodes up to the first action that writes `.Response`, that one included.

    Raises:
        TemplateError: what follows it cannot be left out (Ollama's server fails too).
    """
    return _cut(nodes)[0]


def _cut(nodes: tuple[Node, ...]) -> tuple[tuple[Node, ...], bool]:
    kept: list[Node] = []
    for node in nodes:
        last, found = _cut_node(node)
        kept.append(last)
        if found:
            return tuple(kept), True
    return tuple(kept), False


def _cut_node(node: Node) -> tuple[Node, bool]:
    match node:
        case Action(pipe):
            return node, any("Response" in _path(a) for c in pipe.commands for a in c.args)
        case Branch():
            body, found = _cut(node.body)
            if found and node.otherwise is not None:
                raise TemplateError(
                    f"{{{{ .Response }}}} between {{{{ {node.kind} }}}} and its {{{{ else }}}}"
                )
            if found:
                return replace(node, body=body), True
            otherwise, found = _cut(node.otherwise or ())
            return replace(node, otherwise=otherwise or None), found
        case _:
            return node, False
