"""Which directories a configuration means on a machine with a given environment.

Decides the defaults that depend on the environment. Creates nothing; whether a directory exists is an
argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from posixpath import join, normpath
from typing import Final

from supervisor.contract.config import Config
from supervisor.contract.mistakes import Mistake, MistakesError
from supervisor.contract.runtime_dir import PathError, expand, home, runtime_dir
from supervisor.contract.state_dir import state_dir

SERVICE_STORE: Final = "/usr/share/ollama/.ollama/models"
"""Where Ollama's installer for Linux lets its service keep models."""


class PathsError(MistakesError):
    """Directories that cannot be told from the file and the environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the meaning of a path depends on."""

    environ: Mapping[str, str]
    uid: int
    base_dir: str
    """Absolute; relative paths of the file start here."""
    is_dir: Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Absolute paths of the directories that Corral uses."""

    runtime_dir: str
    store: str
    gguf_dir: str
    state_dir: str


def resolve_paths(config: Config, around: Surroundings) -> Paths:
    """Return the directories of a configuration.

    Raises:
        PathsError: a path names a variable that is not set, or HOME is needed and missing.
    """
    found: dict[str, str] = {}
    mistakes: list[Mistake] = []
    for key, decide in _DECISIONS:
        try:
            found[key] = normpath(join(around.base_dir, decide(config, around)))
        except PathError as error:
            mistakes.append(Mistake((key,), str(error)))
    if mistakes:
        raise PathsError(mistakes)
    return Paths(**found)


def _runtime_dir(config: Config, around: Surroundings) -> str:
    return runtime_dir(config.runtime_dir, around.environ, around.uid)


def _store(config: Config, around: Surroundings) -> str:
    """Ollama's own rule, and then the store of an installed service before one that is not there yet."""
    if config.store is not None:
        return expand(config.store, around.environ)
    if around.environ.get("OLLAMA_MODELS"):
        return around.environ["OLLAMA_MODELS"]
    if not around.environ.get("HOME"):
        return SERVICE_STORE
    own = join(home(around.environ), ".ollama/models")
    return SERVICE_STORE if around.is_dir(SERVICE_STORE) and not around.is_dir(own) else own


def _gguf_dir(config: Config, around: Surroundings) -> str:
    if config.gguf_dir is not None:
        return expand(config.gguf_dir, around.environ)
    data = around.environ.get("XDG_DATA_HOME") or join(home(around.environ), ".local/share")
    return join(data, "corral/models")


def _state_dir(config: Config, around: Surroundings) -> str:
    return state_dir(config.state_dir, around.environ, around.uid)


_DECISIONS: Final[tuple[tuple[str, Callable[[Config, Surroundings], str]], ...]] = (
    ("runtime_dir", _runtime_dir),
    ("store", _store),
    ("gguf_dir", _gguf_dir),
    ("state_dir", _state_dir),
)
