"""Looks up the models whose files this machine has already, for checks before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from supervisor.core.fitting import KnownModel
from supervisor.core.paths import Paths
from supervisor.models.directory import Directory
from supervisor.models.library import Library
from supervisor.models.model import ModelFile
from supervisor.models.store import Store


def find_models(engine: str, paths: Paths) -> Mapping[str, KnownModel]:
    """Return what an engine's workers will find, by the key of a model's name.

    Ollama has its store, and the embedded engine has its directory as well.
    """
    store = Store(Path(paths.store), _say_nothing)
    directory = Directory(Path(paths.gguf_dir), _say_nothing) if engine == "embedded" else None
    found = Library(directory, store, _say_nothing).scan()
    return {key: _known(model) for key, model in found.items()}


def _say_nothing(event: str, *, file: str, reason: str) -> None:
    """The worker that serves the directory tells of broken files."""


def _known(model: ModelFile) -> KnownModel:
    return KnownModel(size_bytes=model.id.size_bytes, info=model.facts.info, embeds=model.facts.embeds)
