"""Writes blobs: `blobs/sha256-…` is there whole and right, or not at all.

Two ways in. An upload has no name until its digest is known, so it is a draft that nobody resumes. A
download knows its digest and size beforehand: its file waits under the digest's name for whoever goes on
with it, this process or the next one. A lock on that file says that somebody works on it; the kernel lets
go of it when that process ends, however it ends.

Blocking: call it in a thread.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from supervisor.models.registry_plan import Part, Plan, new_plan, resumed_plan

PARTIAL_SUFFIX: Final = ".corral-part"
_DRAFT_SUFFIX: Final = ".corral-draft"
_CHUNK_BYTES: Final = 2**20
_FORGOTTEN_S: Final = 7 * 86400.0
"""A download that nobody went on with for so long is given up."""
_ABANDONED_S: Final = 60.0
"""An upload that was not written to for so long, and is not locked, is of a process that was killed."""
_FILE_MODE: Final = 0o644


class WrongDigestError(Exception):
    """Bytes that are not what their name says."""

    def __init__(self, wanted: str, found: str) -> None:
        super().__init__(f"digest mismatch, file must be downloaded again: want {wanted}, got {found}")
        self.wanted = wanted
        self.found = found


@dataclass(slots=True)
class Draft:
    """An upload: bytes in the order in which they come."""

    path: Path
    file: int
    _hash: Any = field(default_factory=hashlib.sha256)
    size_bytes: int = 0

    def write(self, data: bytes) -> None:
        """Add bytes."""
        _write(self.file, data)
        self._hash.update(data)
        self.size_bytes += len(data)

    @property
    def digest(self) -> str:
        """`sha256:…` of what was written so far."""
        return f"sha256:{self._hash.hexdigest()}"


@dataclass(slots=True)
class Partial:
    """A download that is not whole yet, locked for this process."""

    path: Path
    file: int
    plan: Plan

    def write(self, part: Part, data: bytes) -> None:
        """Add bytes to a part: first the bytes, then the count."""
        _write(self.file, data, part.at)
        part.done += len(data)
        at, entry = self.plan.entry(part)
        _write(self.file, entry, at)

    def restart(self, part_bytes: int) -> None:
        """Forget what is there, and cut it anew."""
        self.plan = new_plan(self.plan.size_bytes, part_bytes)
        _write(self.file, self.plan.journal(), self.plan.size_bytes)
        os.ftruncate(self.file, self.plan.file_bytes)

    def close(self) -> None:
        """Let somebody else go on with it."""
        os.close(self.file)


class BlobFiles:
    """The directory of blobs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def path(self, digest: str) -> Path:
        """Return the file of a blob, there or not."""
        return self._path / digest.replace(":", "-")

    def size(self, digest: str) -> int | None:
        """Return a blob's bytes; None when it is not there."""
        with suppress(FileNotFoundError):
            return self.path(digest).stat().st_size
        return None

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Return those that are not there."""
        return [digest for digest in digests if self.size(digest) is None]

    def free_bytes(self) -> int:
        """Return the disk space for more, once nothing is left of what was given up."""
        self._path.mkdir(parents=True, exist_ok=True)
        self._sweep()
        disk = os.statvfs(self._path)
        return disk.f_bavail * disk.f_frsize

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """Begin an upload; unless it is kept it is gone at the end."""
        self._path.mkdir(parents=True, exist_ok=True)
        path = self._path / f"{os.urandom(8).hex()}{_DRAFT_SUFFIX}"
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, _FILE_MODE)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield Draft(path, file)
        finally:
            path.unlink(missing_ok=True)
            os.close(file)

    def keep(self, draft: Draft, wanted: str = "") -> str:
        """Make the draft a blob and return its digest.

        Raises:
            WrongDigestError: it is not `wanted`.
        """
        if wanted not in ("", draft.digest):
            raise WrongDigestError(wanted, draft.digest)
        self._publish(draft.path, draft.file, draft.digest)
        return draft.digest

    def put(self, data: bytes) -> tuple[str, bool]:
        """Write a small blob; return its digest and whether it was there already."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if self.size(digest) is not None:
            return digest, True
        with self.draft() as draft:
            draft.write(data)
            return self.keep(draft), False

    def partial_done(self, digest: str, size_bytes: int) -> int:
        """Return how many bytes of a download are there, also while another process works on it."""
        with suppress(FileNotFoundError), self._partial_path(digest).open("rb") as file:
            file.seek(size_bytes)
            plan = resumed_plan(size_bytes, file.read())
            return plan.done if plan else 0
        return 0

    def open_partial(self, digest: str, size_bytes: int, part_bytes: int) -> Partial | None:
        """Begin a download or go on with it; None while another process does.

        The blob itself may be there by now: look after this and not before.
        """
        self._path.mkdir(parents=True, exist_ok=True)
        path = self._partial_path(digest)
        file = os.open(path, os.O_CREAT | os.O_RDWR, _FILE_MODE)
        if not _lock(file) or not _is(path, file):
            os.close(file)
            return None
        plan = resumed_plan(size_bytes, os.pread(file, _CHUNK_BYTES, size_bytes))
        partial = Partial(path, file, plan or new_plan(size_bytes, part_bytes))
        if plan is None:
            partial.restart(part_bytes)
        return partial

    def finish(self, partial: Partial, digest: str) -> None:
        """Make a download that is complete a blob.

        Raises:
            WrongDigestError: it is not what its name says; it is gone then.
        """
        found = _digest_of(partial.path, partial.plan.size_bytes)
        if found != digest:
            partial.path.unlink()
            raise WrongDigestError(digest, found)
        os.ftruncate(partial.file, partial.plan.size_bytes)
        self._publish(partial.path, partial.file, digest)

    def drop(self, partial: Partial) -> None:
        """Remove a download that nobody needs any more."""
        partial.path.unlink(missing_ok=True)

    def remove(self, digests: Iterable[str]) -> None:
        """Remove blobs; those that are not there are fine."""
        for digest in digests:
            self.path(digest).unlink(missing_ok=True)

    def _publish(self, path: Path, file: int, digest: str) -> None:
        os.fsync(file)
        path.rename(self.path(digest))
        sync_directory(self._path)

    def _partial_path(self, digest: str) -> Path:
        return self.path(digest).with_suffix(PARTIAL_SUFFIX)

    def _sweep(self) -> None:
        """Remove what killed processes left: drafts, and downloads that were forgotten."""
        now = time.time()
        for suffix, age_s in ((_DRAFT_SUFFIX, _ABANDONED_S), (PARTIAL_SUFFIX, _FORGOTTEN_S)):
            for path in self._path.glob(f"*{suffix}"):
                with suppress(FileNotFoundError):
                    if now - path.stat().st_mtime > age_s:
                        _remove_unlocked(path)


def sync_directory(path: Path) -> None:
    """Let a rename in a directory outlive a loss of power."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _digest_of(path: Path, size_bytes: int) -> str:
    """Return the digest of the first bytes of a file."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while size_bytes > 0 and (data := file.read(min(size_bytes, _CHUNK_BYTES))):
            digest.update(data)
            size_bytes -= len(data)
    return f"sha256:{digest.hexdigest()}"


def _write(file: int, data: bytes, at: int | None = None) -> None:
    """Write all of it; one call may write less."""
    view = memoryview(data)
    while view:
        count = os.write(file, view) if at is None else os.pwrite(file, view, at)
        view = view[count:]
        at = None if at is None else at + count


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(path: Path, file: int) -> bool:
    """Whether the path still names the open file: before it was locked, another may have renamed it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file))
    return False


def _remove_unlocked(path: Path) -> None:
    with suppress(FileNotFoundError):
        file = os.open(path, os.O_RDWR)
        try:
            if _lock(file) and _is(path, file):
                path.unlink()
        finally:
            os.close(file)
