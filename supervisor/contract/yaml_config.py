"""Corral's configuration from YAML text, or every mistake in it with file, line and key.

Decides nothing about single keys: the text is `yaml_tree`'s, the schema is the contract's. Reads no files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from supervisor.contract.config import Config
from supervisor.contract.contradictions import contradictions
from supervisor.contract.mistakes import Blame, Mistake, key_text
from supervisor.contract.schema_mistakes import schema_mistakes
from supervisor.contract.yaml_tree import Tree, TreeMistake, read_tree

_Schema = TypeVar("_Schema", bound=BaseModel)
_RUNTIME_DIR: Final = "runtime_dir"
_MOST_TOLD: Final = 20
"""Mistakes; nobody mends more at once."""


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
    """A configuration that cannot be used, with the mistakes in it; a command prints it and exits with 2.

    Of very many the first are told and the others counted.
    """

    def __init__(self, mistakes: Sequence[ConfigMistake], *, untold: int = 0) -> None:
        """`untold` is how many there are besides."""
        told, untold = list(mistakes[:_MOST_TOLD]), untold + len(mistakes[_MOST_TOLD:])
        if untold:
            told.append(ConfigMistake(mistakes[0].file, None, "", f"{untold} more: mend these first"))
        super().__init__("\n".join(str(mistake) for mistake in told))
        self.mistakes = tuple(told)


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A valid configuration and where each of its keys is written."""

    config: Config
    file: str
    tree: Tree
    text: str = ""

    def blame(self, mistakes: Sequence[Blame]) -> ConfigError:
        """Return later findings (paths, placement) as an error that names file and line."""
        return ConfigError(self.locate(mistakes))

    def locate(self, findings: Sequence[Blame]) -> tuple[ConfigMistake, ...]:
        """Return findings with file and line."""
        return tuple(_located(finding, self.tree, self.file) for finding in findings)


def parse_config(text: str, *, file: str) -> Config:
    """Return the configuration that a YAML text means; `file` names it in mistakes.

    Raises:
        ConfigError: holds the mistakes.
    """
    return parse_source(text, file=file).config


def parse_source(text: str, *, file: str) -> ConfigSource:
    """Return the configuration with the lines of its keys.

    Raises:
        ConfigError: holds the mistakes, in the order of the lines.
    """
    config, tree = parse_as(Config, text, file=file, check=contradictions)
    return ConfigSource(config, file, tree, text)


def parse_as(
    schema: type[_Schema], text: str, *, file: str, check: Callable[[_Schema], Sequence[Mistake]]
) -> tuple[_Schema, Tree]:
    """Return what a YAML text means by any schema; `check` finds what the schema alone cannot.

    Raises:
        ConfigError: holds the mistakes, in the order of the lines.
    """
    tree = read_tree(text)
    entries = _entries(tree, file)
    found: Sequence[Blame]
    try:
        meant = schema.model_validate_json(json.dumps(entries))
        found = check(meant)
    except ValidationError as error:
        found = schema_mistakes(error, entries, schema)
    if found or tree.mistakes:
        raise _first_of(tree, found, file)
    return meant, tree


def _first_of(tree: Tree, found: Sequence[Blame], file: str) -> ConfigError:
    """Return the mistakes of the YAML and of what it means; only of those that are told words are sought."""
    known = {mistake.key for mistake in tree.mistakes}
    lines: list[tuple[int | None, Blame]] = [(mistake.line, mistake) for mistake in tree.mistakes]
    lines += [(tree.line_of(mistake.key), mistake) for mistake in found if mistake.key not in known]
    lines.sort(key=lambda line: line[0] or 0)
    told = [
        ConfigMistake(file, line, key_text(mistake.key), mistake.message)
        for line, mistake in lines[:_MOST_TOLD]
    ]
    return ConfigError(told, untold=len(lines) - len(told))


def parse_runtime_dir(text: str, *, file: str) -> str | None:
    """Return the runtime directory that a file names, None if it leaves it out, whatever else is wrong in it.

    Raises:
        ConfigError: that one key is wrong, even in how it is written, or nothing of the file can be read.
    """
    tree = read_tree(text)
    entries = _entries(tree, file)
    mistakes = _noted((found for found in tree.mistakes if found.key[:1] == (_RUNTIME_DIR,)), file)
    if mistakes:
        raise ConfigError(mistakes)
    it_alone = {key: value for key, value in entries.items() if _may_be_runtime_dir(key)}
    try:
        return Config.model_validate_json(json.dumps(it_alone)).runtime_dir
    except ValidationError as error:
        raise ConfigSource(Config(), file, tree).blame(schema_mistakes(error, it_alone)) from error


def _may_be_runtime_dir(key: str) -> bool:
    """Whether a key is, or was to be, that one: with it misspelled, another Corral would be addressed."""
    close = get_close_matches(key.lower().replace("-", "_"), [_RUNTIME_DIR])
    return key == _RUNTIME_DIR or (bool(close) and key not in Config.model_fields)


def _entries(tree: Tree, file: str) -> dict[str, JsonValue]:
    """Return what stands at the top of the file, by its keys.

    Raises:
        ConfigError: nothing of it can be read, or there are no keys.
    """
    if tree.value is None and tree.mistakes:
        raise ConfigError(_noted(tree.mistakes, file))
    if tree.value is None:
        tree.value = {}
    if not isinstance(tree.value, dict):
        raise ConfigError(
            [ConfigMistake(file, 1, "", "the file must hold keys with values, such as workers: auto")]
        )
    return tree.value


def _noted(mistakes: Iterable[TreeMistake], file: str) -> list[ConfigMistake]:
    return [ConfigMistake(file, found.line, key_text(found.key), found.message) for found in mistakes]


def _located(mistake: Blame, tree: Tree, file: str) -> ConfigMistake:
    return ConfigMistake(file, tree.line_of(mistake.key), key_text(mistake.key), mistake.message)
