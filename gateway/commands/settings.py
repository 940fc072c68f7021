"""Reads the configuration file for the gateway's commands: the file, and where its sockets lie."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.host import user_id
from supervisor.contract.command import PLACE_REMEDY
from supervisor.contract.config import Config
from supervisor.contract.runtime_dir import PathError, runtime_dir
from supervisor.contract.state_dir import learned_file, state_dir
from supervisor.contract.yaml_config import ConfigError, parse_config, parse_runtime_dir


class SettingsError(Exception):
    """The file cannot be used; the text names it and says why."""


def read_config(file: str | None, accepted: str | None = None) -> Config:
    """Return the configuration of a file, or all defaults without one.

    `accepted` is a copy of the file as it was when it was found right: that is read, whatever the file itself
    has become.

    Raises:
        SettingsError: not readable, or wrong.
    """
    source = file if accepted is None else accepted
    if source is None:
        return Config()
    try:
        return parse_config(_text_of(source), file=file or source)
    except ConfigError as error:
        raise SettingsError(str(error)) from error


def find_directory(file: str | None) -> Path:
    """Return the runtime directory of a Corral that runs; its file may be wrong by now in all but that.

    Raises:
        SettingsError: the file does not tell.
    """
    try:
        configured = None if file is None else parse_runtime_dir(_text_of(file), file=file)
        return _directory(configured, file)
    except (ConfigError, SettingsError) as error:
        raise SettingsError(f"{error}: {PLACE_REMEDY}") from error


def directory_of(config: Config, file: str | None) -> Path:
    """Return the runtime directory; a relative one starts at the file's directory.

    Raises:
        SettingsError: the path names a variable that is not set.
    """
    return _directory(config.runtime_dir, file)


def _directory(configured: str | None, file: str | None) -> Path:
    try:
        return _from_file(file, runtime_dir(configured, os.environ, user_id()))
    except PathError as error:
        raise SettingsError(f"{file or 'the defaults'}: runtime_dir: {error}") from error


def learned_file_of(config: Config, file: str | None, directory: Path) -> Path:
    """Return where the gateway with this runtime directory keeps what it learns.

    Raises:
        SettingsError: the path names a variable that is not set.
    """
    try:
        state = _from_file(file, state_dir(config.state_dir, os.environ, user_id()))
    except PathError as error:
        raise SettingsError(f"{file or 'the defaults'}: state_dir: {error}") from error
    return state / learned_file(str(directory.resolve()))


def _text_of(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{file}: the file cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file}: {error}") from error


def _from_file(file: str | None, path: str) -> Path:
    return Path(file).absolute().parent / path if file is not None else Path(path)
