"""All models of a worker: the GGUF files of its directory and the models of an Ollama store.

Decides which one a name means: a GGUF file wins over a model of the store, because the directory is
Corral's own and the store somebody else's; the log says so once.
"""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.models.directory import Directory, Report
from supervisor.models.model import ModelFile
from supervisor.models.store import Store


class Library:
    """The models, looked for anew whenever somebody asks."""

    def __init__(self, directory: Directory | None, store: Store | None, report: Report) -> None:
        self._directory = directory
        self._store = store
        self._report = report
        self._found: Mapping[str, ModelFile] = {}
        self._told: set[str] = set()

    def scan(self) -> Mapping[str, ModelFile]:
        """Return the models by the key of their name."""
        stored = self._store.scan() if self._store is not None else {}
        files = self._directory.scan() if self._directory is not None else {}
        for key in sorted(stored.keys() & files.keys() - self._told):
            reason = f"{files[key].id.path} has the same name and is used instead"
            self._report("store_model_hidden", file=stored[key].name.short, reason=reason)
        self._told = set(stored.keys() & files.keys())
        self._found = {**stored, **files}
        return self._found

    def find(self, key: str) -> ModelFile | None:
        """Return one model; the directories are read again only when it is not as it was seen last."""
        model = self._found.get(key)
        if model is not None and self._is_current(model):
            return model
        return self.scan().get(key)

    def _is_current(self, model: ModelFile) -> bool:
        if model.entry is None:
            return self._directory is not None and self._directory.is_current(model)
        return self._store is not None and self._store.is_current(model)
