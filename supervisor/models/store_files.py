"""Writes to a store of Ollama's layout: which names there are, and which blobs nobody needs any more.

A manifest is written elsewhere and renamed, so that a reader sees the old one or the new one. What
looks at all manifests and then changes something does so under the store's lock, which processes of Corral
share: nobody takes away a blob for which another one writes a manifest just then.

Blocking: call it in a thread.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from supervisor.contract.names import InvalidModelNameError, ModelName
from supervisor.models.blob_files import BlobFiles, sync_directory
from supervisor.models.manifest import InvalidManifestError, Manifest, parse_manifest

_LOCK: Final = ".corral-lock"
_DRAFT: Final = ".corral-manifest"
"""Beside the manifests and not among them, where others would take it for one."""
_LEVELS: Final = 4
"""Host, namespace, model, tag."""


class MissingBlobsError(Exception):
    """A manifest cannot be written, because blobs that it names are not there (any more)."""

    def __init__(self, digests: list[str]) -> None:
        super().__init__(f"not in the store: {', '.join(digests)}")
        self.digests = digests


class StoreFiles:
    """The files of one store; it comes to be with the first thing that is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = BlobFiles(path / "blobs")
        self._manifests = path / "manifests"

    def canonical(self, name: ModelName) -> ModelName:
        """Return the name as the store writes it already, part by part, since case tells no names apart."""
        known = self._names()
        same = next((other for other in known if other.key == name.key), None)
        if same is not None:
            return same
        kept = {part.lower(): part for other in known for part in (other.host, other.namespace, other.model)}
        host, namespace, model = (kept.get(p.lower(), p) for p in (name.host, name.namespace, name.model))
        return ModelName(host, namespace, model, name.tag)

    def read(self, name: ModelName) -> Manifest | None:
        """Return the manifest of a name; None when there is none.

        Raises:
            InvalidManifestError: it is broken.
        """
        with suppress(FileNotFoundError):
            return parse_manifest(self._path(name).read_bytes())
        return None

    def has(self, name: ModelName) -> bool:
        """Whether there is a manifest of that name, broken or not."""
        return self._path(name).is_file()

    def write(self, name: ModelName, data: bytes) -> list[str]:
        """Let `data` be the manifest of a name.

        Returns:
            The blobs of the manifest that it replaced: see `remove_unused`.

        Raises:
            MissingBlobsError: a blob that it names is not there.
        """
        with self._locked():
            if missing := self.blobs.missing(parse_manifest(data).digests):
                raise MissingBlobsError(missing)
            replaced = self._digests_of(self._path(name))
            self._write(self._path(name), data)
        return replaced

    def copy(self, source: ModelName, target: ModelName) -> list[str]:
        """Give a model a second name.

        Returns:
            The blobs of the model that had it before: see `remove_unused`.

        Raises:
            FileNotFoundError: there is no such model.
        """
        with self._locked():
            data = self._path(source).read_bytes()
            replaced = self._digests_of(self._path(target))
            self._write(self._path(target), data)
        return replaced

    def remove(self, name: ModelName) -> list[str]:
        """Take a name away and return the blobs that it stood for: see `remove_unused`.

        Raises:
            FileNotFoundError: there is no such model.
        """
        path = self._path(name)
        if not path.is_file():
            raise FileNotFoundError(path)
        with self._locked():
            digests = self._digests_of(path)
            path.unlink()
            for folder in path.parents[:3]:
                with suppress(OSError):  # not empty
                    folder.rmdir()
        return digests

    def remove_unused(self, digests: Iterable[str]) -> list[str]:
        """Remove those of the blobs that no manifest names; return them."""
        with self._locked():
            used = {digest for path in self._paths() for digest in self._digests_of(path)}
            unused = sorted(set(digests) - used)
            self.blobs.remove(unused)
        return unused

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def _write(self, path: Path, data: bytes) -> None:
        """Write a manifest whole; what a crash leaves is overwritten by the next one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path / _DRAFT
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        sync_directory(path.parent)

    def _path(self, name: ModelName) -> Path:
        return self._manifests / name.host / name.namespace / name.model / name.tag

    def _paths(self) -> list[Path]:
        found = [self._manifests]
        for _ in range(_LEVELS):
            found = [inner for path in found for inner in _inside(path)]
        return sorted(path for path in found if _is_manifest(path))

    def _names(self) -> list[ModelName]:
        return [name for path in self._paths() if (name := _name_of(path)) is not None]

    def _digests_of(self, path: Path) -> list[str]:
        """Return a manifest's blobs; one that is broken or gone names none."""
        with suppress(FileNotFoundError, InvalidManifestError):
            return parse_manifest(path.read_bytes()).digests
        return []


def _inside(folder: Path) -> list[Path]:
    """Return what is in a folder; others may remove it just now, but what cannot be read is no empty one."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return list(folder.iterdir())
    return []


def _is_manifest(path: Path) -> bool:
    return not path.name.startswith(".") and path.is_file()


def _name_of(path: Path) -> ModelName | None:
    host, namespace, model, tag = path.parts[-4:]
    with suppress(InvalidModelNameError):
        return ModelName.parse(f"{host}/{namespace}/{model}:{tag}")
    return None
