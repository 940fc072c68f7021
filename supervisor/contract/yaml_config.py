"""Corral's configuration from YAML text, or every mistake in it with file, line and key.

Decides nothing about single keys: the text is `yaml_tree`'s, the schema is the contract's. Reads no files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from supervisor.contract.config import Config
from supervisor.contract.contradictions import contradictions
from supervisor.contract.mistakes import Mistake, key_text
from supervisor.contract.schema_mistakes import schema_mistakes
from supervisor.contract.yaml_tree import Tree, read_tree

_Schema = TypeVar("_Schema", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ConfigMistake:
    """One thing that is wrong, with the place to mend it."""

    file: str
    line: int | None
    """Counted from 1; None when no line says it (a default, or no file at all)."""
    key: str
    """Empty when it is about the whole file."""
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(Exception):
    """A configuration that cannot be used, with every mistake in it; a command prints it and exits with 2."""

    def __init__(self, mistakes: Sequence[ConfigMistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A valid configuration and where each of its keys is written."""

    config: Config
    file: str
    tree: Tree
    text: str = ""

    def blame(self, mistakes: Sequence[Mistake]) -> ConfigError:
        """Return later findings (paths, placement) as an error that names file and line."""
        return ConfigError(self.locate(mistakes))

    def locate(self, findings: Sequence[Mistake]) -> tuple[ConfigMistake, ...]:
        """Return findings with file and line."""
        return tuple(_located(finding, self.tree, self.file) for finding in findings)


def parse_config(text: str, *, file: str) -> Config:
    """Return the configuration that a YAML text means; `file` names it in mistakes.

    Raises:
        ConfigError: holds every mistake.
    """
    return parse_source(text, file=file).config


def parse_source(text: str, *, file: str) -> ConfigSource:
    """Return the configuration with the lines of its keys.

    Raises:
        ConfigError: holds every mistake, in the order of the lines.
    """
    config, tree = parse_as(Config, text, file=file, check=contradictions)
    return ConfigSource(config, file, tree, text)


def parse_as(
    schema: type[_Schema], text: str, *, file: str, check: Callable[[_Schema], Sequence[Mistake]]
) -> tuple[_Schema, Tree]:
    """Return what a YAML text means by any schema; `check` finds what the schema alone cannot.

    Raises:
        ConfigError: holds every mistake, in the order of the lines.
    """
    tree = read_tree(text)
    mistakes = [
        ConfigMistake(file, found.line, key_text(found.key), found.message) for found in tree.mistakes
    ]
    unreadable = tree.value is None and mistakes
    if unreadable:
        raise ConfigError(mistakes)
    if tree.value is None:
        tree.value = {}
    if not isinstance(tree.value, dict):
        raise ConfigError(
            [ConfigMistake(file, 1, "", "the file must hold keys with values, such as workers: auto")]
        )
    known = {found.key for found in tree.mistakes}
    try:
        meant = schema.model_validate_json(json.dumps(tree.value))
        found = check(meant)
    except ValidationError as error:
        found = schema_mistakes(error, tree.value, schema)
    mistakes += [_located(mistake, tree, file) for mistake in found if mistake.key not in known]
    if mistakes:
        raise ConfigError(sorted(mistakes, key=lambda mistake: mistake.line or 0))
    return meant, tree


def _located(mistake: Mistake, tree: Tree, file: str) -> ConfigMistake:
    return ConfigMistake(file, tree.line_of(mistake.key), key_text(mistake.key), mistake.message)
