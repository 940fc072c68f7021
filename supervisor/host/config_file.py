"""Reads the configuration file. What it means is `supervisor/contract/yaml_config.py`'s to say."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from supervisor.contract.config import Config
from supervisor.contract.yaml_config import (
    ConfigError,
    ConfigMistake,
    ConfigSource,
    parse_runtime_dir,
    parse_source,
)
from supervisor.contract.yaml_tree import Tree

NO_FILE = "the defaults"
"""What mistakes name where there is no file."""
_LONGEST_BYTES: Final = 4 * 2**20
"""Far beyond any configuration; a model's file, or a device that never ends, is not read into memory."""


def load_source(path: Path | None) -> ConfigSource:
    """Return the configuration of a file, with the lines of its keys; None is all defaults.

    Raises:
        ConfigError: the file cannot be read, or holds mistakes.
    """
    if path is None:
        return ConfigSource(Config(), NO_FILE, Tree(value={}))
    return parse_source(_read(path), file=str(path))


def load_runtime_dir(path: Path | None) -> str | None:
    """Return the runtime directory that a file names, if it does, whatever else is wrong in it.

    Raises:
        ConfigError: the file cannot be read, or does not tell.
    """
    return None if path is None else parse_runtime_dir(_read(path), file=str(path))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_BYTES + 1)
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror}"
        raise ConfigError([ConfigMistake(str(path), None, "", reason)]) from error
    if len(content) > _LONGEST_BYTES:
        reason = (
            f"is longer than {_LONGEST_BYTES // 2**20} MiB and can be no configuration: name another file"
        )
        raise ConfigError([ConfigMistake(str(path), None, "", reason)])
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"the byte 0x{content[error.start]:02x} is no UTF-8: save the file as UTF-8"
        raise ConfigError([ConfigMistake(str(path), line, "", reason)]) from error
