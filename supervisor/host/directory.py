"""The runtime directory: made for us alone, and held by one supervisor at a time.

Decides who may have it. Where it lies is decided in `supervisor/contract/runtime_dir.py`.
"""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.contract.runtime_dir import ACCEPTED, ENDPOINT, LOCK

_LONGEST_NAME: Final = "handover.9999.sock"
_SOCKET_PATH_BYTES: Final = 107
"""What sockaddr_un holds, less the closing NUL."""


class DirectoryError(Exception):
    """The runtime directory cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class RuntimeDirectory:
    """A claimed directory. The kernel ends the claim when the process ends, however it ends."""

    path: Path
    _lock_fd: int

    def write_endpoint(self, url: str) -> None:
        """Tell scripts where clients connect; a reader sees all of it or nothing.

        Raises:
            OSError: there is no room for it.
        """
        fresh = self.path / f".{ENDPOINT}"
        fresh.write_text(f"{url}\n")
        fresh.replace(self.path / ENDPOINT)

    def write_accepted(self, text: str) -> None:
        """Keep the configuration that was accepted; it may hold secrets of the workers' `env`.

        Raises:
            OSError: there is no room for it.
        """
        fresh = self.path / f".{ACCEPTED}"
        fresh.unlink(missing_ok=True)
        with os.fdopen(
            os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(text)
        fresh.replace(self.path / ACCEPTED)

    def release(self) -> None:
        """Give the directory up; who had sockets in it has ended, killed or not."""
        for socket in self.path.glob("*.sock"):
            socket.unlink(missing_ok=True)
        for name in (ENDPOINT, ACCEPTED):
            (self.path / name).unlink(missing_ok=True)
            (self.path / f".{name}").unlink(missing_ok=True)  # for which there was no room
        os.close(self._lock_fd)


def claim(path: Path) -> RuntimeDirectory:
    """Make the directory if need be, and take its lock.

    Raises:
        DirectoryError: it cannot be made or is not safe, or another supervisor holds it.
    """
    if len(os.fsencode(path / _LONGEST_NAME)) > _SOCKET_PATH_BYTES:
        raise DirectoryError(f"{path} is too long for the path of a socket: set a shorter `runtime_dir`")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(path)
        lock_fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _take(path, lock_fd)
    except OSError as error:
        raise DirectoryError(f"{path}: {error.strerror}: set another `runtime_dir`") from error
    (path / ENDPOINT).unlink(missing_ok=True)  # of one that was killed
    return RuntimeDirectory(path, lock_fd)


def _check_owner(path: Path) -> None:
    """A directory that others may write to could hold sockets of theirs."""
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise DirectoryError(
            f"{path} belongs to another user (uid {status.st_uid}): set another `runtime_dir`"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DirectoryError(
            f"{path} can be written to by others: chmod 700 it, or set another `runtime_dir`"
        )


def _take(path: Path, lock_fd: int) -> None:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(lock_fd, 32, 0).decode().strip() or "unknown"
        os.close(lock_fd)
        raise DirectoryError(
            f"{path} is in use by another supervisor (process {pid}): stop it, or set another `runtime_dir`"
        ) from error
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
