"""Makes a model of GGUF files or of another model, step by step: base, new layers, manifest.

Decides nothing about a model's layers (see `models/creation.py`). Weights are never copied within a store;
a file of the GGUF directory is, because nobody promises that it will not be changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from supervisor.contract.names import ModelName
from supervisor.engines.embedded.failures import BAD_REQUEST, INTERNAL, ApiError
from supervisor.engines.embedded.pull import Pulls, Tell, check_space
from supervisor.engines.embedded.pull_downloads import in_thread
from supervisor.engines.embedded.store_bodies import NO_ADAPTERS
from supervisor.models import progress
from supervisor.models.blob_files import BlobFiles
from supervisor.models.creation import Base, Creation, Order, Text, layer_kind, plan_creation
from supervisor.models.digests import Digests
from supervisor.models.directory import read_facts, read_header
from supervisor.models.facts import ModelFacts, facts_of
from supervisor.models.gguf import InvalidGgufError, TruncatedGgufError
from supervisor.models.library import Library
from supervisor.models.manifest import (
    ADAPTER,
    PROJECTOR,
    WEIGHTS,
    InvalidManifestError,
    Layer,
    parse_object,
)
from supervisor.models.model import ModelFile
from supervisor.models.store_files import MissingBlobsError, StoreFiles

_FILES: Final = (WEIGHTS, PROJECTOR, ADAPTER)
_COPY_BYTES: Final = 2**22


@dataclass(slots=True)
class Creator:
    """Creates models in one store."""

    library: Library
    digests: Digests
    files: StoreFiles
    pulls: Pulls

    async def create(self, order: Order, tell: Tell) -> None:
        """Create a model, and tell how it goes on.

        Raises:
            ApiError: it cannot be created.
            OSError: the store cannot be written to.
        """
        if order.source is not None:
            base = await self._base_of_model(order.source, tell)
        else:
            base = await self._base_of_files(order.files, tell)
        if not any(layer.kind == WEIGHTS for layer in base.layers):
            raise ApiError(BAD_REQUEST, "none of the files has a model's weights")
        await self.write(order.name, plan_creation(base, order.wish), tell)

    async def import_file(self, model: ModelFile) -> Base:
        """Return what a file of the GGUF directory is as a base, once its bytes are in the store.

        Raises:
            ApiError: there is no room for them.
            OSError: they cannot be written.
        """
        size = model.id.size_bytes
        digest = f"sha256:{self.digests.known(model.id)}"
        if await in_thread(self.files.blobs.size, digest) != size:
            await check_space(self.files, size)
            digest, size = await in_thread(_copy_in, self.files.blobs, Path(model.id.path))
        return Base(layers=(Layer(WEIGHTS, digest, size, model.name.short),), facts=(model.facts,))

    async def _base_of_model(self, source: ModelName, tell: Tell) -> Base:
        model = self.library.find(source.key)
        if model is not None and model.entry is None:
            return await self.import_file(model)
        name = await in_thread(self.files.canonical, source)
        if not await in_thread(self.files.has, name):
            await self.pulls.pull(name, tell, insecure=False)
        try:
            return await in_thread(_base_of_manifest, self.files, name)
        except (InvalidManifestError, InvalidGgufError) as error:
            raise ApiError(INTERNAL, f"{name.short} cannot be made a base: {error}") from error

    async def _base_of_files(self, files: Mapping[str, str], tell: Tell) -> Base:
        layers, facts = [], []
        for digest in files.values():
            await tell(progress.PARSING_GGUF)
            found = await in_thread(_checked_facts, self.files.blobs.path(digest))
            if (kind := layer_kind(found)) == ADAPTER:
                raise ApiError(BAD_REQUEST, NO_ADAPTERS)
            path = self.files.blobs.path(digest)
            layers.append(Layer(kind, digest, path.stat().st_size, str(path)))
            facts.append(found)
        return Base(layers=tuple(layers), facts=tuple(facts))

    async def write(self, name: ModelName, creation: Creation, tell: Tell) -> None:
        """Write a model, and remove what only the one needed that had its name.

        Raises:
            ApiError: a blob was removed meanwhile.
            OSError: the store cannot be written to.
        """
        for part in creation.parts:
            existed = True
            if isinstance(part, Text):
                _, existed = await in_thread(self.files.blobs.put, part.data)
            layer = part.layer if isinstance(part, Text) else part
            await tell(progress.layered(layer.digest, existed=existed))
        await in_thread(self.files.blobs.put, creation.config.data)
        await tell(progress.WRITING_MANIFEST)
        try:
            replaced = await in_thread(self.files.write, name, creation.manifest)
        except MissingBlobsError as error:
            raise ApiError(INTERNAL, f"{error}: somebody removed it meanwhile; ask again") from error
        await in_thread(self.files.remove_unused, replaced)


def _copy_in(blobs: BlobFiles, path: Path) -> tuple[str, int]:
    with path.open("rb") as file, blobs.draft() as draft:
        while data := file.read(_COPY_BYTES):
            draft.write(data)
        return blobs.keep(draft), draft.size_bytes


def _checked_facts(path: Path) -> ModelFacts:
    """Return the facts of a GGUF file that is whole.

    Raises:
        ApiError: it is no GGUF file, or is cut short.
    """
    try:
        header, size = read_header(path), path.stat().st_size
    except TruncatedGgufError as error:
        raise ApiError(BAD_REQUEST, f"the GGUF file is cut short: {error}") from error
    except InvalidGgufError as error:
        raise ApiError(BAD_REQUEST, f"supplied file was not in GGUF format: {error}") from error
    if header.file_bytes > size:
        text = f"the GGUF file is cut short: its last tensor ends at byte {header.file_bytes}, which "
        raise ApiError(BAD_REQUEST, f"{text}exceeds file size ({size})")
    return facts_of(header)


def _base_of_manifest(files: StoreFiles, name: ModelName) -> Base:
    manifest = files.read(name)
    if manifest is None:
        raise InvalidManifestError("it was removed meanwhile")
    layers = tuple(replace(layer, origin=name.short) for layer in manifest.layers)
    parameters = [_object(files, layer) for layer in manifest.of_kind("params")]
    gguf = [files.blobs.path(layer.digest) for layer in manifest.of_kind(*_FILES)]
    return Base(
        layers=layers,
        facts=tuple(read_facts(path) for path in gguf),
        parameters=parameters[-1] if parameters else {},
        config=_object(files, manifest.config) if manifest.config is not None else {},
    )


def _object(files: StoreFiles, layer: Layer) -> Mapping[str, Any]:
    return parse_object(files.blobs.path(layer.digest).read_bytes())
