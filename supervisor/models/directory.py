"""Which models a directory of GGUF files holds: `NAME.gguf` is the model `NAME:latest`.

Decides names and re-reads a header only when size or time of a file changed, so that a listing costs
one stat a file. Must not know what is loaded. A file whose header is broken stays listed: loading it
then tells the client why.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

from supervisor.contract.names import InvalidModelNameError, ModelName
from supervisor.models.facts import NOTHING_KNOWN, ModelFacts, facts_of
from supervisor.models.gguf import (
    KEPT_ARRAY_LENGTH,
    Header,
    InvalidGgufError,
    TruncatedGgufError,
    parse_header,
)
from supervisor.models.model import FileId, ModelFile

_SUFFIX: Final = ".gguf"
_FIRST_READ_BYTES: Final = 2**20
_LONGEST_HEADER_BYTES: Final = 2**28
"""A vocabulary of 256,000 words with its merges takes some 12 MiB."""
_KEPT_HEADERS: Final = 64
"""A large model's takes some 100 kB, a vocabulary's length left aside."""


class Report(Protocol):
    """Takes a file that is passed over or broken, and why."""

    def __call__(self, event: str, *, file: str, reason: str) -> object:
        """Tell a person."""


class Directory:
    """The models in one directory, read again whenever somebody asks."""

    def __init__(self, path: Path, report: Report) -> None:
        self._path = path
        self._report = report
        self._known: dict[str, ModelFile | None] = {}
        self._ids: dict[str, FileId] = {}

    def scan(self) -> Mapping[str, ModelFile]:
        """Return the models by the key of their name; an unreadable directory is empty.

        Two files that differ only in case are one model: the first in alphabetical order wins.
        """
        found: dict[str, ModelFile] = {}
        for file in _gguf_files(self._path):
            model = self._model(file)
            if model is not None:
                found.setdefault(model.name.key, model)
        return found

    def is_current(self, model: ModelFile) -> bool:
        """Return whether the model's file is as it was when it was read."""
        return self._known.get(model.id.path) is model and file_id(model.id.path) == model.id

    def _model(self, file: FileId) -> ModelFile | None:
        if self._ids.get(file.path) != file:
            self._known[file.path] = self._read(file)
            self._ids[file.path] = file
        return self._known[file.path]

    def _read(self, file: FileId) -> ModelFile | None:
        path = Path(file.path)
        try:
            name = ModelName.parse(path.name[: -len(_SUFFIX)])
        except InvalidModelNameError as error:
            self._report("model_file_skipped", file=path.name, reason=str(error))
            return None
        return ModelFile(name, file, self._facts(file))

    def _facts(self, file: FileId) -> ModelFacts:
        try:
            return facts_of(header_of(file))
        except (InvalidGgufError, OSError) as error:
            self._report("model_file_broken", file=Path(file.path).name, reason=str(error))
            return NOTHING_KNOWN


def read_facts(path: Path) -> ModelFacts:
    """Return the facts of one file, reading little more than its header.

    Raises:
        InvalidGgufError: not a GGUF file, or cut short.
        OSError: the file cannot be read.
    """
    return facts_of(read_header(path))


@lru_cache(maxsize=_KEPT_HEADERS)
def header_of(file: FileId) -> Header:
    """Return the header of one state of a file, read once: who lists a model shows it soon after.

    To walk over a vocabulary takes a tenth of a second and more, beside which nothing else is answered.

    Raises:
        InvalidGgufError: not a GGUF file, or cut short.
        OSError: the file cannot be read.
    """
    return read_header(Path(file.path))


def read_header(path: Path, *, kept_array_length: float = KEPT_ARRAY_LENGTH) -> Header:
    """Return the header of one file.

    It is read and not mapped: a map of a file that somebody shortens at that moment kills the process.

    Raises:
        InvalidGgufError: not a GGUF file, or cut short.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(_FIRST_READ_BYTES)
        while True:
            try:
                return parse_header(data, kept_array_length=kept_array_length)
            except TruncatedGgufError:
                more = b"" if len(data) >= _LONGEST_HEADER_BYTES else file.read(3 * len(data))
                if not more:
                    raise
                data += more


def _gguf_files(path: Path) -> list[FileId]:
    try:
        with os.scandir(path) as entries:
            named = sorted(entry.path for entry in entries if entry.name.endswith(_SUFFIX))
    except OSError:
        return []
    return [found for path_ in named if (found := file_id(path_)) is not None]


def file_id(path: str) -> FileId | None:
    """Return the state of a file; None when there is no such file (any more)."""
    try:
        state = os.stat(path)  # noqa: PTH116 -- one call for a path that is text, once a model and request
    except OSError:
        return None
    return FileId(path, state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else None
