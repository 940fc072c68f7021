"""Tokens as nodes: Go's grammar of templates. Pure.

Decides what is a correct template, as Go does: unknown functions and variables are errors here already.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from supervisor.models.gotemplate.lexer import Kind, TemplateError, Token, tokens
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

_CONSTANTS: Final = {"true": True, "false": False, "nil": None}
_ENDS: Final = ("end", "else")
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|[abfnrtv\\'\"])")
_DEEPEST: Final = 200
"""Nested parentheses and blocks; Python's own stack has its limit too."""


def parse(source: str, functions: Collection[str]) -> Template:
    """Return the template that `source` is; `functions` are the names it may use.

    Raises:
        TemplateError: it is none, with the line and the construct.
    """
    parser = _Parser(list(tokens(source)), frozenset(functions))
    nodes, stop = parser.list_until()
    if stop is not None:
        raise TemplateError(f"line {stop.line}: unexpected {{{{{stop.text}}}}}")
    return Template(nodes, parser.defined)


@dataclass(slots=True)
class _Parser:
    """A position in the tokens and the variables that are known there."""

    tokens: list[Token]
    functions: frozenset[str]
    at: int = 0
    variables: list[str] = field(default_factory=lambda: [""])
    ranges: int = 0
    depth: int = 0
    defined: dict[str, tuple[Node, ...]] = field(default_factory=dict)

    def peek(self) -> Token:
        if self.at >= len(self.tokens):
            line = self.tokens[-1].line if self.tokens else 1
            raise TemplateError(f"line {line}: unexpected end of the template")
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def is_sign(self, text: str) -> bool:
        token = self.peek()
        return token.kind is Kind.SIGN and token.text == text

    def expect_end(self, after: str) -> None:
        token = self.take()
        if token.kind is not Kind.END:
            raise TemplateError(f"line {token.line}: unexpected {token.text!r} in {after}")

    def list_until(self) -> tuple[tuple[Node, ...], Token | None]:
        """Return the nodes up to `end`, `else` or the end of the text, and the word that stopped them."""
        self._deeper()
        found: list[Node] = []
        while self.at < len(self.tokens):
            token = self.take()
            if token.kind is Kind.TEXT:
                found.append(Text(token.text))
                continue
            self.at -= 1
            if token.kind is Kind.WORD and token.text in _ENDS:
                self.depth -= 1
                return tuple(found), self.take()
            node = self._action(token)
            found.extend(() if node is None else (node,))
        self.depth -= 1
        return tuple(found), None

    def _action(self, token: Token) -> Node | None:
        word = token.text if token.kind is Kind.WORD else ""
        match word:
            case "if" | "with" | "range":
                self.at += 1
                return self._branch(Branching(word))
            case "define":
                self._define()
                return None
            case "template" | "block":
                return self._call(word)
            case "break" | "continue":
                return self._jump(word)
        pipe = self.pipeline("command")
        self.expect_end("command")
        return Action(pipe)

    def _branch(self, kind: Branching) -> Branch:
        known = len(self.variables)
        pipe = self.pipeline(kind, ranges=kind is Branching.RANGE)
        self.expect_end(kind)
        self.ranges += kind is Branching.RANGE
        body, stop = self.list_until()
        self.ranges -= kind is Branching.RANGE
        otherwise = self._otherwise(kind, self._closing(stop, kind))
        del self.variables[known:]
        return Branch(kind, pipe, body, otherwise)

    def _closing(self, stop: Token | None, opened: str) -> Token:
        if stop is None:
            raise TemplateError(f"unexpected end of the template: {{{{{opened}}}}} has no {{{{end}}}}")
        return stop

    def _otherwise(self, kind: Branching, stop: Token) -> tuple[Node, ...] | None:
        if stop.text == "end":
            self.expect_end("end")
            return None
        token = self.peek()
        if kind is not Branching.RANGE and token.kind is Kind.WORD and token.text == kind:
            self.at += 1
            return (self._branch(kind),)  # `else if`: the inner one takes the `end`
        self.expect_end("else")
        nodes, last = self.list_until()
        if self._closing(last, "else").text != "end":
            raise TemplateError(f"line {stop.line}: expected end; found {{{{else}}}}")
        self.expect_end("end")
        return nodes

    def _define(self) -> None:
        line = self.take().line
        name = self._name("define")
        self.expect_end("define")
        if self.depth > 1:
            raise TemplateError(f"line {line}: unexpected {{{{define}}}} inside of another block")
        self._name_nodes(name, self._body("define"), line)

    def _name_nodes(self, name: str, nodes: tuple[Node, ...], line: int) -> None:
        if self.defined.get(name):
            raise TemplateError(f'line {line}: multiple definition of template "{name}"')
        self.defined[name] = nodes

    def _body(self, opened: str) -> tuple[Node, ...]:
        """A named template knows no variables of the place where it stands."""
        outer, self.variables = self.variables, [""]
        nodes, stop = self.list_until()
        if self._closing(stop, opened).text != "end":
            raise TemplateError(f"unexpected {{{{else}}}} in {opened}")
        self.expect_end("end")
        self.variables = outer
        return nodes

    def _call(self, word: str) -> Call:
        line = self.take().line
        name = self._name(word)
        pipe = None if self.peek().kind is Kind.END else self.pipeline(word)
        self.expect_end(word)
        if word == "block":
            self._name_nodes(name, self._body(word), line)
        return Call(name, pipe, line)

    def _name(self, word: str) -> str:
        token = self.take()
        if token.kind not in (Kind.STRING, Kind.RAW_STRING):
            raise TemplateError(f"line {token.line}: {word} needs a name in quotes, not {token.text!r}")
        return _text(token)

    def _jump(self, word: str) -> Node:
        token = self.take()
        self.expect_end(word)
        if not self.ranges:
            raise TemplateError(f"line {token.line}: {{{{{word}}}}} outside {{{{range}}}}")
        return Break() if word == "break" else Continue()

    def pipeline(self, context: str, *, ranges: bool = False) -> Pipe:
        """Parse up to what ends a pipeline, and leave that there."""
        self._deeper()
        variables, assigns = self._declaration(context, ranges=ranges)
        commands = [self._command(context)]
        while self.is_sign("|"):
            self.at += 1
            commands.append(self._command(context))
        self.depth -= 1
        if not assigns:
            self.variables.extend(variables)
        for number, command in enumerate(commands):
            if number and not isinstance(command.args[0], (Function, Field, Chain, Variable)):
                raise TemplateError(
                    f"line {command.line}: non executable command in pipeline stage {number + 1}"
                )
        return Pipe(tuple(commands), variables, assigns)

    def _deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise TemplateError(f"more than {_DEEPEST} nested blocks and parentheses")

    def _declaration(self, context: str, *, ranges: bool) -> tuple[tuple[str, ...], bool]:
        """Return the variables before `:=` or `=`, if it is that."""
        start, names = self.at, list[str]()
        while self.peek().kind is Kind.VARIABLE:
            names.append(self.take().text)
            if self.is_sign(":=") or self.is_sign("="):
                assigns = self.take().text == "="
                self._check_variables(names, context, assigns=assigns)
                return tuple(names), assigns
            if not (ranges and len(names) == 1 and self.is_sign(",")):
                break
            self.at += 1
        self.at = start
        return (), False

    def _check_variables(self, names: list[str], context: str, *, assigns: bool) -> None:
        unknown = [name for name in names if assigns and name not in self.variables]
        if unknown:
            raise TemplateError(f"undefined variable ${unknown[0]} in {context}")

    def _command(self, context: str) -> Command:
        args: list[Argument] = []
        line = self.peek().line
        while self.peek().kind is not Kind.END and not self.is_sign("|") and not self.is_sign(")"):
            if args and not self.peek().spaced:
                raise TemplateError(f"line {self.peek().line}: unexpected {self.peek().text!r} in operand")
            args.append(self._operand(context))
        if not args:
            raise TemplateError(f"line {line}: missing value for {context}")
        return Command(tuple(args), line)

    def _operand(self, context: str) -> Argument:  # noqa: PLR0911 -- one line for each kind of operand
        token = self.take()
        match token.kind:
            case Kind.FIELD:
                return Field((token.text, *self._path()))
            case Kind.VARIABLE:
                return self._variable(token)
            case Kind.WORD:
                return self._word(token)
            case Kind.SIGN if token.text == ".":
                return Dot()
            case Kind.SIGN if token.text == "(":
                return self._parenthesis(context)
            case Kind.STRING | Kind.RAW_STRING:
                return Literal(_text(token))
            case Kind.CHARACTER:
                return Literal(_character(token))
            case Kind.NUMBER:
                return Literal(_number(token))
        raise TemplateError(f"line {token.line}: unexpected {token.text!r} in {context}")

    def _path(self) -> tuple[str, ...]:
        fields: list[str] = []
        while self.peek().kind is Kind.FIELD and not self.peek().spaced:
            fields.append(self.take().text)
        return tuple(fields)

    def _variable(self, token: Token) -> Variable:
        if token.text not in self.variables:
            raise TemplateError(f"line {token.line}: undefined variable ${token.text}")
        return Variable(token.text, self._path())

    def _word(self, token: Token) -> Argument:
        if token.text in _CONSTANTS:
            return Literal(_CONSTANTS[token.text])
        if token.text not in self.functions:
            raise TemplateError(f'line {token.line}: function "{token.text}" not defined')
        return Function(token.text)

    def _parenthesis(self, context: str) -> Argument:
        pipe = self.pipeline(context)
        closing = self.take()
        if closing.text != ")":
            raise TemplateError(f"line {closing.line}: unclosed left parenthesis")
        path = self._path()
        return Chain(pipe, path) if path else pipe


def _text(token: Token) -> str:
    body = token.text[1:-1]
    if token.kind is Kind.RAW_STRING:
        return body.replace("\r", "")
    rest = _ESCAPE.sub("", body)
    if "\\" in rest:
        raise TemplateError(f"line {token.line}: unknown escape in {token.text}")
    return _ESCAPE.sub(lambda found: _unescaped(found[1]), body)


def _unescaped(escape: str) -> str:
    if escape[0] in "01234567":
        return chr(int(escape, 8))
    return codecs.decode("\\" + escape, "unicode_escape")


def _character(token: Token) -> int:
    text = _text(token)
    if len(text) != 1:
        raise TemplateError(f"line {token.line}: {token.text} is not one character")
    return ord(text)


def _number(token: Token) -> int | float:
    text = token.text.replace("_", "")
    try:
        return int(text, 16 if "x" in text.lower() else 10)
    except ValueError:
        return float(text)
