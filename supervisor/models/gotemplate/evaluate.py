"""Renders a parsed template. Pure.

Decides what a field, a variable, a function and a pipeline are worth, and which nodes are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from supervisor.models.gotemplate.functions import Functions
from supervisor.models.gotemplate.lexer import TemplateError
from supervisor.models.gotemplate.nodes import (
    Action,
    Argument,
    Branch,
    Branching,
    Break,
    Call,
    Chain,
    Command,
    Continue,
    Dot,
    Field,
    Function,
    Literal,
    Node,
    Pipe,
    Template,
    Text,
    Variable,
)
from supervisor.models.gotemplate.values import Struct, Value, is_true, printed

_MOST_CALLS: Final = 100
"""Nested `template` calls; a template that calls itself for ever is stopped here."""
_NOTHING: Final = object()
"""There is no value from an earlier command of the pipeline."""


class _BreakError(Exception):
    """`break` on its way to its `range`."""


class _ContinueError(Exception):
    """`continue` on its way to its `range`."""


def execute(template: Template, data: Mapping[str, Value], functions: Functions) -> str:
    """Return the text that the template makes of `data`.

    Raises:
        TemplateError: a value has not what the template asks of it, or a construct is not supported.
    """
    run = _Run(template, functions, [["", data]])
    run.walk(template.nodes, data)
    return "".join(run.written)


@dataclass(slots=True)
class _Run:
    """One rendering: what was written, and the variables in scope."""

    template: Template
    functions: Functions
    variables: list[list[Value]]
    """Pairs of name and value, the innermost last."""
    written: list[str] = field(default_factory=list)
    calls: int = 0

    def walk(self, nodes: Iterable[Node], dot: Value) -> None:
        for node in nodes:
            match node:
                case Text(text):
                    self.written.append(text)
                case Action(pipe):
                    value = self.value(pipe, dot)
                    if not pipe.variables:
                        self.written.append(printed(value))
                case Branch():
                    known = len(self.variables)
                    self._branch(node, dot)
                    del self.variables[known:]
                case Call():
                    self._call(node, dot)
                case Break():
                    raise _BreakError
                case Continue():
                    raise _ContinueError

    def _branch(self, node: Branch, dot: Value) -> None:
        if node.kind is Branching.RANGE:
            self._range(node, dot)
            return
        value = self.value(node.pipe, dot)
        inner = value if node.kind is Branching.WITH else dot
        if is_true(value):
            self.walk(node.body, inner)
        else:
            self.walk(node.otherwise or (), dot)

    def _range(self, node: Branch, dot: Value) -> None:
        value = self._pipe(node.pipe, dot)
        rounds = list(_rounds(value))
        if not rounds:
            self.walk(node.otherwise or (), dot)
        known = len(self.variables)
        for key, item in rounds:
            self._set_round(node.pipe, key, item)
            try:
                self.walk(node.body, item)
            except _ContinueError:
                pass
            except _BreakError:
                break
            finally:
                del self.variables[known:]

    def _set_round(self, pipe: Pipe, key: Value, item: Value) -> None:
        values = (item,) if len(pipe.variables) == 1 else (key, item)
        self._set(pipe, zip(pipe.variables, values, strict=False))

    def _set(self, pipe: Pipe, pairs: Iterable[tuple[str, Value]]) -> None:
        for name, value in pairs:
            if pipe.assigns:
                next(pair for pair in reversed(self.variables) if pair[0] == name)[1] = value
            else:
                self.variables.append([name, value])

    def _call(self, node: Call, dot: Value) -> None:
        nodes = self.template.defined.get(node.name)
        if nodes is None:
            raise TemplateError(f'line {node.line}: template "{node.name}" not defined')
        self.calls += 1
        if self.calls > _MOST_CALLS:
            raise TemplateError(f'line {node.line}: template "{node.name}" calls itself too often')
        value = None if node.pipe is None else self.value(node.pipe, dot)
        outer, self.variables = self.variables, [["", value]]
        self.walk(nodes, value)
        self.variables = outer
        self.calls -= 1

    def value(self, pipe: Pipe, dot: Value) -> Value:
        """Return what a pipeline is worth, and set its variables."""
        value = self._pipe(pipe, dot)
        self._set(pipe, ((name, value) for name in pipe.variables))
        return value

    def _pipe(self, pipe: Pipe, dot: Value) -> Value:
        value: Value = _NOTHING
        for command in pipe.commands:
            value = self._command(command, dot, value)
        return value

    def _command(self, command: Command, dot: Value, last: Value) -> Value:
        first, *rest = command.args
        if isinstance(first, Function):
            return self._function(first.name, command, dot, last)
        if rest or last is not _NOTHING:
            raise TemplateError(f"line {command.line}: {_named(first)} is no function and takes no argument")
        if isinstance(first, Literal) and first.value is None:
            raise TemplateError(f"line {command.line}: nil is not a command")
        return self._argument(first, dot)

    def _function(self, name: str, command: Command, dot: Value, last: Value) -> Value:
        given = command.args[1:]
        if name in ("and", "or"):
            values = (self._argument(argument, dot) for argument in given)
            return _decided(name, _then(values, last))
        args = [self._argument(argument, dot) for argument in given]
        return _called(self.functions[name], name, list(_then(args, last)), command.line)

    def _argument(self, argument: Argument, dot: Value) -> Value:  # noqa: PLR0911 -- one for each kind
        match argument:
            case Literal(value):
                return value
            case Dot():
                return dot
            case Field(path):
                return _field(dot, path)
            case Variable(name, path):
                value = next(pair for pair in reversed(self.variables) if pair[0] == name)[1]
                return _field(value, path)
            case Pipe():
                return self.value(argument, dot)
            case Chain(pipe, path):
                return _field(self.value(pipe, dot), path)
            case Function(name):
                return _called(self.functions[name], name, [], 0)


def _rounds(value: Value) -> Iterator[tuple[Value, Value]]:
    """Yield key and item of each round; maps in the order of their keys."""
    match value:
        case None:
            return
        case Mapping():
            yield from ((key, value[key]) for key in sorted(value))
        case list() | tuple():
            yield from enumerate(value)
        case int() if not isinstance(value, bool):
            yield from ((number, number) for number in range(value))
        case _:
            raise TemplateError(f"range can't iterate over {printed(value)}")


def _field(value: Value, path: Iterable[str]) -> Value:
    for name in path:
        value = _member(value, name)
    return value


def _member(value: Value, name: str) -> Value:
    if isinstance(value, Mapping):
        return value.get(name)
    if isinstance(value, Struct):
        member = value.member(name)
        if member is None:
            raise TemplateError(f"can't evaluate field {name} in type {value.type_name}")
        return member.value
    kind = "nil" if value is None else type(value).__name__
    raise TemplateError(f"can't evaluate field {name} in a value that is {kind}")


def _then(values: Iterable[Value], last: Value) -> Iterator[Value]:
    yield from values
    if last is not _NOTHING:
        yield last


def _decided(name: str, values: Iterator[Value]) -> Value:
    """Return the first argument that decides `and` or `or`; those after it are not evaluated."""
    value: Value = _NOTHING
    for value in values:
        if is_true(value) is (name == "or"):
            return value
    if value is _NOTHING:
        raise TemplateError(f"{name} needs an argument")
    return value


def _called(function: Callable[..., Value], name: str, args: list[Value], line: int) -> Value:
    try:
        return function(*args)
    except TypeError as error:
        raise TemplateError(f"line {line}: wrong number or type of arguments for {name}") from error


def _named(argument: Argument) -> str:
    match argument:
        case Field(path):
            return "." + ".".join(path)
        case Variable(name, path):
            return ".".join(("$" + name, *path))
        case Literal(value):
            return printed(value)
        case _:
            return "this value"
