"""What is learned, as a small JSON file that outlives the gateway: the text, and the file around it.

The codec is pure: a text becomes what was learned, or an error that says why not, and never a part of it.
What it writes it can read again: numbers that nobody could have measured are left out when writing and
refused when reading. The file is a shell around that; when it is written decides `learning.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.scheduling.estimates import ModelLearned
from gateway.scheduling.names import Variant

_log = structlog.get_logger("learned")

VERSION: Final = 1
MOST_MODELS: Final = 2000
"""More are left out: those that are asked for least."""
MOST_PLACES: Final = 1000
"""Workers or devices of one model."""
_MOST_BYTES: Final = 64 * 2**20
_MOST: Final = 1e12
"""Beyond it is no number of seconds, tokens or arrivals."""
_MOST_SIZE_BYTES: Final = 2**53

_Amount = Annotated[float, Field(ge=0, le=_MOST)]
_Speed = Annotated[float, Field(gt=0, le=_MOST)]
"""Somebody divides by it."""


class LearnedFileError(ValueError):
    """A text that is not what a gateway of this version learned; says why."""


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _Model(_Row):
    name: str = ""
    """For people."""
    digest: Annotated[str, Field(min_length=1, max_length=1000)]
    options: Annotated[dict[str, int | bool], Field(max_length=100)] = {}
    fast_rate: _Amount
    slow_rate: _Amount
    output_tokens: _Amount | None
    size_bytes: Annotated[int, Field(ge=0, le=_MOST_SIZE_BYTES)] | None
    load_s: Annotated[dict[str, _Amount], Field(max_length=MOST_PLACES)]
    service_s: Annotated[dict[str, _Amount], Field(max_length=MOST_PLACES)]
    prefill_tokens_per_s: Annotated[dict[str, _Speed], Field(max_length=MOST_PLACES)]

    def learned(self) -> ModelLearned:
        return ModelLearned(
            fast_rate=self.fast_rate,
            slow_rate=self.slow_rate,
            output_tokens=self.output_tokens,
            load_s=self.load_s,
            service_s=self.service_s,
            prefill_tokens_per_s=self.prefill_tokens_per_s,
            size_bytes=self.size_bytes,
        )


class _Version(BaseModel):
    version: int


class _File(_Row):
    version: Literal[1]
    saved_unix: _Amount
    boot: Annotated[str, Field(max_length=100)] = ""
    up_s: _Amount = 0.0
    models: Annotated[list[_Model], Field(max_length=MOST_MODELS)]


@dataclass(frozen=True, slots=True)
class Boot:
    """A moment in the life of the machine, by the clock that goes from its start on."""

    id: str = ""
    """Another with each start of the machine; empty where nobody knows."""
    up_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Saved:
    """What a file holds."""

    saved_unix: float
    """Wall time of the writing."""
    learned: Mapping[Variant, ModelLearned]
    names: Mapping[Variant, str]
    """What people call the models, for those who read the file; not all need have one."""
    boot: Boot = Boot()

    def passed_s(self, now_unix: float, now: Boot = Boot()) -> float:
        """Return how long ago it was written.

        As long as the machine has not been restarted nobody can set its clock wrong; after that the wall
        clock must do, and one that was put back makes it 0.
        """
        if now.id and now.id == self.boot.id:
            return max(0.0, now.up_s - self.boot.up_s)
        return max(0.0, now_unix - self.saved_unix)


# The text ---------------------------------------------------------------------


def encode(saved: Saved) -> str:
    """Return the text of a file: one line a model, those that are asked for most first."""
    often = sorted(saved.learned.items(), key=lambda item: (-_rate(item[1]), item[0]))
    rows = (_encoded(variant, known, saved.names.get(variant, "")) for variant, known in often[:MOST_MODELS])
    lines = ",\n".join(f"  {json.dumps(row, allow_nan=False)}" for row in rows)
    boot = f', "boot": {json.dumps(saved.boot.id)}, "up_s": {saved.boot.up_s:.3f}' if saved.boot.id else ""
    head = f'{{"version": {VERSION}, "saved_unix": {saved.saved_unix:.3f}{boot}, "models": ['
    return f"{head}\n{lines}\n]}}\n" if lines else f"{head}]}}\n"


def decode(text: str | bytes) -> Saved:
    """Return what a text holds, whole.

    Raises:
        LearnedFileError: another version, broken, or with numbers that nobody could have measured.
    """
    try:
        version = _Version.model_validate_json(text).version
        if version != VERSION:
            raise LearnedFileError(f"it is of version {version}, and this Corral reads {VERSION}")
        file = _File.model_validate_json(text)
    except ValidationError as error:
        raise LearnedFileError(_first_mistake(error)) from error
    models = {Variant(model.digest, tuple(model.options.items())): model for model in file.models}
    if len(models) != len(file.models):
        raise LearnedFileError("a model stands in it twice")
    learned = {variant: model.learned() for variant, model in models.items()}
    names = {variant: model.name for variant, model in models.items()}
    return Saved(file.saved_unix, learned, names, Boot(file.boot, file.up_s))


def _rate(known: ModelLearned) -> float:
    return max(_amount(known.fast_rate) or 0.0, _amount(known.slow_rate) or 0.0)


def _encoded(variant: Variant, known: ModelLearned, name: str) -> dict[str, object]:
    size = known.size_bytes
    return {
        "name": name,
        "digest": variant.digest,
        "options": dict(variant.options),
        "fast_rate": _amount(known.fast_rate) or 0.0,
        "slow_rate": _amount(known.slow_rate) or 0.0,
        "output_tokens": None if known.output_tokens is None else _amount(known.output_tokens),
        "size_bytes": size if size is not None and 0 <= size <= _MOST_SIZE_BYTES else None,
        "load_s": _amounts(known.load_s.items()),
        "service_s": _amounts(known.service_s.items()),
        "prefill_tokens_per_s": {
            at: v for at, v in _amounts(known.prefill_tokens_per_s.items()).items() if v
        },
    }


def _amounts(measured: Iterable[tuple[str, float]]) -> dict[str, float]:
    known = ((where, _amount(value)) for where, value in measured)
    return dict(islice(((where, value) for where, value in known if value is not None), MOST_PLACES))


def _amount(value: float) -> float | None:
    """Return the number as it is written, None if nobody could have measured it (NaN compares false)."""
    return float(f"{value:.6g}") if 0 <= value <= _MOST else None


def _first_mistake(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


# The file ---------------------------------------------------------------------


class LearnedFile:
    """A file of its gateway's alone. Every failure is one warning; none is fatal."""

    def __init__(self, path: Path) -> None:
        """Touch nothing yet."""
        self.path = path
        self._warned = False

    def read(self) -> Saved | None:
        """Return what it holds; a file that cannot be used is put aside with a warning that names it."""
        try:
            return decode(self._bytes())
        except FileNotFoundError:
            return None
        except (OSError, LearnedFileError) as error:
            _log.warning(
                "what was learned earlier cannot be used; starting without it",
                file=str(self.path),
                put_aside=self._put_aside(),
                error=str(error),
            )
            return None

    def write(self, text: str) -> None:
        """Replace it by this text, whole or not at all; slow, for a thread of its own."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(self.path, text)
        except OSError as error:
            if not self._warned:
                _log.warning(
                    "what is learned cannot be kept: a restart of the gateway would begin without it; "
                    "mend this, or set another state_dir",
                    file=str(self.path),
                    error=str(error),
                )
            self._warned = True
        else:
            if self._warned:
                _log.info("what is learned is kept again", file=str(self.path))
            self._warned = False

    def _bytes(self) -> bytes:
        with self.path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise LearnedFileError(f"it has more than {_MOST_BYTES} bytes")
        return content

    def _put_aside(self) -> str | None:
        aside = self.path.with_name(f"{self.path.name}.unread")
        try:
            self.path.replace(aside)
        except OSError:
            return None
        return str(aside)


def _replace(path: Path, text: str) -> None:
    """Write beside it and rename: whoever reads, also after a crash, finds the old text or the new one."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # of a gateway that was killed while it wrote
    try:
        with os.fdopen(
            os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink(missing_ok=True)  # a full disk needs its room
        raise
