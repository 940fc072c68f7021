"""The SHA-256 of model files: what makes two workers agree that they hold the same weights.

Files are hashed one after the other in a background thread, and each result is kept in a small file
under the user's cache directory, named after (path, size, time). So a start never waits for a hash,
a 20 GB file is hashed once a machine and not once a start, and every worker reports the same digest.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from supervisor.models.model import FileId

_HEX_DIGITS: Final = 64


def cache_directory(env: Mapping[str, str]) -> Path | None:
    """Return where digests are kept: $XDG_CACHE_HOME/corral or ~/.cache/corral; None without a home."""
    if cache := env.get("XDG_CACHE_HOME"):
        return Path(cache) / "corral" / "digests"
    return Path(home) / ".cache" / "corral" / "digests" if (home := env.get("HOME")) else None


class Digests:
    """Digests by file, computed in the background."""

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="digest")
        self._hashes: dict[FileId, Future[str]] = {}

    def begin(self, files: Iterable[FileId]) -> None:
        """Start hashing those not known yet; returns at once."""
        for file in files:
            if file not in self._hashes:
                self._hashes[file] = self._thread.submit(_digest, file, self._cache)

    async def wait(self, files: Iterable[FileId], *, timeout_s: float) -> None:
        """Wait until the digests of `files` are known, at most `timeout_s` seconds."""
        pending = [asyncio.wrap_future(f) for file in files if not (f := self._hashes[file]).done()]
        if pending:
            await asyncio.wait(pending, timeout=timeout_s)

    def known(self, file: FileId) -> str:
        """Return the hex digest, or nothing while it is not known or the file cannot be read."""
        future = self._hashes.get(file)
        if future is None or not future.done() or future.exception() is not None:
            return ""
        return future.result()

    def close(self) -> None:
        """Begin no further hash. The thread may still read the file it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _digest(file: FileId, cache: Path | None) -> str:
    kept = None if cache is None else cache / _cache_name(file)
    digest = _read_kept(kept)
    if digest is None:
        with Path(file.path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        _keep(kept, digest)
    return digest


def _cache_name(file: FileId) -> str:
    identity = f"{Path(file.path).resolve()}\0{file.size_bytes}\0{file.mtime_ns}"
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()


def _read_kept(path: Path | None) -> str | None:
    try:
        text = path.read_text("ascii") if path is not None else ""
    except (OSError, UnicodeDecodeError):
        return None
    return text if len(text) == _HEX_DIGITS else None


def _keep(path: Path | None, digest: str) -> None:
    """Write it whole or not at all; a cache that cannot be written costs a hash at the next start."""
    if path is None:
        return
    draft = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(digest, "ascii")
        draft.replace(path)
