"""What a template is made of, once it has been parsed, and walks over it. Pure.

The names are those of Go's text/template/parse, because the rules for prompt templates speak of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Text:
    """Literal text."""

    text: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: text, number, true, false, nil."""

    value: str | float | int | bool | None


@dataclass(frozen=True, slots=True)
class Dot:
    """`.`, the current value."""


@dataclass(frozen=True, slots=True)
class Field:
    """`.A.B` of the current value."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """`$x.A.B`; the name of `$` is empty."""

    name: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """The name of a function."""

    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    """`(pipeline).A.B`."""

    of: Pipe
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A function with its arguments, or one value."""

    args: tuple[Argument, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Pipe:
    """Commands, each of which gives its value to the next, and the variables that take the last value."""

    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    assigns: bool = False
    """`=` to variables that exist, instead of `:=`."""


@dataclass(frozen=True, slots=True)
class Action:
    """A pipeline whose value is written, unless it sets variables."""

    pipe: Pipe


class Branching(StrEnum):
    """The three that choose between two lists."""

    IF = "if"
    WITH = "with"
    RANGE = "range"


@dataclass(frozen=True, slots=True)
class Branch:
    """`if`, `with` or `range`, with what follows `else`."""

    kind: Branching
    pipe: Pipe
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...] | None


@dataclass(frozen=True, slots=True)
class Call:
    """`{{ template "name" pipeline }}`."""

    name: str
    pipe: Pipe | None
    line: int


@dataclass(frozen=True, slots=True)
class Break:
    """Ends the innermost `range`."""


@dataclass(frozen=True, slots=True)
class Continue:
    """Goes on with the next round of the innermost `range`."""


Argument = Literal | Dot | Field | Variable | Function | Chain | Pipe
Node = Text | Action | Branch | Call | Break | Continue


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template."""

    nodes: tuple[Node, ...]
    defined: Mapping[str, tuple[Node, ...]]
    """The templates that `define` and `block` name."""


def arguments(pipe: Pipe) -> Iterator[Argument]:
    """Yield the arguments of all commands, and those of pipelines in parentheses after them."""
    for command in pipe.commands:
        for argument in command.args:
            yield argument
            if isinstance(argument, Pipe):
                yield from arguments(argument)


def pipes(nodes: tuple[Node, ...]) -> Iterator[Pipe]:
    """Yield the pipelines of all nodes, of the inner ones too."""
    for node in nodes:
        match node:
            case Action(pipe):
                yield pipe
            case Branch(_, pipe, body, otherwise):
                yield pipe
                yield from pipes(body)
                yield from pipes(otherwise or ())
            case Call(_, pipe) if pipe is not None:
                yield pipe
            case _:
                pass
