"""Which models an Ollama store holds: `manifests/HOST/NAMESPACE/MODEL/TAG` over `blobs/sha256-…`.

Reads only: nothing is written, locked or pruned there, and Ollama may change it at any time. A model is
read again when time or size of its manifest or its weights changed, so a listing costs two stats a
model. One that is broken is left out, with one line for the log until its state changes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from supervisor.contract.names import InvalidModelNameError, ModelName
from supervisor.models.directory import Report, file_id, header_of
from supervisor.models.facts import ModelFacts, facts_of
from supervisor.models.gguf import InvalidGgufError
from supervisor.models.gotemplate.lexer import TemplateError
from supervisor.models.manifest import (
    ADAPTER,
    PROJECTOR,
    TEMPLATES,
    InvalidManifestError,
    Layer,
    Manifest,
    parse_manifest,
    parse_object,
)
from supervisor.models.model import FileId, ModelFile, StoreEntry
from supervisor.models.modelfile import Modelfile
from supervisor.models.prompt_template import DEFAULT_TEMPLATE, PromptTemplate

_LEVELS: Final = 4
"""Directories and the file: host, namespace, model, tag."""
_LARGEST_MANIFEST_BYTES: Final = 2**22
_LARGEST_LAYER_BYTES: Final = 2**24
"""Of the layers that are read whole: templates, licenses and their like."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A model and the state of the files that it was read from."""

    manifest: FileId
    model: ModelFile


class Store:
    """The models of one store; one that does not exist is empty."""

    def __init__(self, path: Path, report: Report) -> None:
        self._blobs = path / "blobs"
        self._manifests = path / "manifests"
        self._report = report
        self._known: dict[str, _Read] = {}
        self._told: dict[str, str] = {}
        self._facts: dict[FileId, ModelFacts] = {}

    def scan(self) -> Mapping[str, ModelFile]:
        """Return the models by the key of their name; of names that differ in case only, the first."""
        found: dict[str, ModelFile] = {}
        for path, parts in _manifest_paths(self._manifests):
            model = self._model(path, parts)
            if model is not None:
                found.setdefault(model.name.key, model)
        return found

    def is_current(self, model: ModelFile) -> bool:
        """Return whether the model's manifest and weights are as they were when it was read."""
        name = model.name
        path = str(self._manifests / name.host / name.namespace / name.model / name.tag)
        read = self._known.get(path)
        return read is not None and read.model is model and self._unchanged(read)

    def _unchanged(self, read: _Read) -> bool:
        paths = (read.manifest.path, read.manifest), (read.model.id.path, read.model.id)
        return all(file_id(path) == known for path, known in paths)

    def _model(self, path: str, parts: tuple[str, ...]) -> ModelFile | None:
        read = self._known.get(path)
        if read is not None and self._unchanged(read):
            return read.model
        self._known.pop(path, None)
        try:
            manifest_id = _existing(path)
            model = self._read(manifest_id, parts)
        except (InvalidManifestError, InvalidModelNameError, InvalidGgufError, OSError) as error:
            self._skip("/".join(parts), str(error))
            return None
        self._told.pop("/".join(parts), None)
        self._known[path] = _Read(manifest_id, model)
        return model

    def _skip(self, name: str, reason: str) -> None:
        if self._told.get(name) != reason:
            self._told[name] = reason
            self._report("store_model_skipped", file=name, reason=reason)

    def _read(self, manifest_id: FileId, parts: tuple[str, ...]) -> ModelFile:
        host, namespace, model, tag = parts
        name = ModelName.parse(f"{host}/{namespace}/{model}:{tag}")
        data = _read_at_most(Path(manifest_id.path), _LARGEST_MANIFEST_BYTES)
        manifest = parse_manifest(data)
        weights = _existing(str(self._path(manifest.weights)))
        facts = self._facts_of(weights)
        modelfile = self._modelfile(manifest, facts)
        template, problem = self._template(name, modelfile, facts)
        entry = StoreEntry(
            digest=hashlib.sha256(data).hexdigest(),
            weights=manifest.weights.digest,
            size_bytes=manifest.size_bytes,
            modified_ns=manifest_id.mtime_ns,
            modelfile=modelfile,
            template=template,
            problem=problem,
        )
        return ModelFile(name, weights, facts, entry)

    def _facts_of(self, weights: FileId) -> ModelFacts:
        """Names over the same weights share one reading."""
        if weights not in self._facts:
            self._facts[weights] = facts_of(header_of(weights))
        return self._facts[weights]

    def _modelfile(self, manifest: Manifest, facts: ModelFacts) -> Modelfile:
        """Read the layers; a model without a template has that of its weights, which Ollama passes over."""
        default = "" if facts.chat_template else DEFAULT_TEMPLATE
        templates = [self._text(layer) for layer in manifest.of_kind(*TEMPLATES)]
        systems = [self._text(layer) for layer in manifest.of_kind("system")]
        parameters = [self._object(layer) for layer in manifest.of_kind("params")]
        config = {} if manifest.config is None else self._object(manifest.config)
        return Modelfile(
            config=config,
            parent=manifest.weights.origin,
            template=(templates or [default])[-1],
            system=(systems or [""])[-1],
            parameters=(parameters or [{}])[-1],
            messages=tuple(m for layer in manifest.of_kind("messages") for m in self._messages(layer)),
            licenses=tuple(self._text(layer) for layer in manifest.of_kind("license")),
            adapters=tuple(str(self._path(layer)) for layer in manifest.of_kind(ADAPTER)),
            projectors=tuple(str(self._path(layer)) for layer in manifest.of_kind(PROJECTOR)),
        )

    def _template(
        self, name: ModelName, modelfile: Modelfile, facts: ModelFacts
    ) -> tuple[PromptTemplate | None, str]:
        """Return the template, or why the one of the GGUF file takes its place, or why nothing can."""
        if not modelfile.template and not modelfile.built_in:
            return None, ""
        reason = modelfile.built_in and f"its prompts are made by {modelfile.built_in} of Ollama"
        if not reason:
            try:
                return PromptTemplate.parse(modelfile.template), ""
            except TemplateError as error:
                reason = f"its template is not understood: {error}"
        if facts.chat_template or facts.embeds:
            why = f"{reason}; the chat template of its GGUF file is used instead"
            self._report("store_template_replaced", file=name.short, reason=why)
            return None, ""
        return None, f"{name.short}: {reason}, and its GGUF file has no chat template; use the engine ollama"

    def _path(self, layer: Layer) -> Path:
        return self._blobs / layer.file_name

    def _text(self, layer: Layer) -> str:
        return _read_at_most(self._path(layer), _LARGEST_LAYER_BYTES).decode("utf-8", "replace")

    def _object(self, layer: Layer) -> Mapping[str, Any]:
        return parse_object(_read_at_most(self._path(layer), _LARGEST_LAYER_BYTES))

    def _messages(self, layer: Layer) -> list[Mapping[str, Any]]:
        text = self._text(layer)
        messages = parse_object(f'{{"messages": {text}}}'.encode())["messages"]
        if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
            raise InvalidManifestError("its messages layer is no list of messages")
        return messages


def _manifest_paths(root: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each manifest with the parts of its name, in alphabetical order."""
    folders = [(str(root), tuple[str, ...]())]
    for level in range(_LEVELS):
        is_file = level == _LEVELS - 1
        folders = [found for path, parts in folders for found in _entries(path, parts, files=is_file)]
    yield from folders


def _entries(path: str, parts: tuple[str, ...], *, files: bool) -> list[tuple[str, tuple[str, ...]]]:
    try:
        with os.scandir(path) as entries:
            wanted = [e for e in entries if (e.is_file() if files else e.is_dir())]
    except OSError:
        return []
    names = sorted(entry.name for entry in wanted if not entry.name.startswith("."))
    return [(f"{path}/{name}", (*parts, name)) for name in names]


def _existing(path: str) -> FileId:
    found = file_id(path)
    if found is None:
        raise InvalidManifestError(f"{Path(path).name} is missing")
    return found


def _read_at_most(path: Path, limit: int) -> bytes:
    """Read a small file; one that is missing or huge makes no model."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise InvalidManifestError(f"{path.name} is missing") from error
    if len(data) > limit:
        raise InvalidManifestError(f"{path.name} is larger than {limit} bytes")
    return data
