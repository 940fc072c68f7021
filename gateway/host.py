"""What differs between Linux, macOS and Windows: event loop, signals, the operator's socket.

The gateway alone runs on all three; whatever one of them lacks is asked for here and nowhere else. On
Windows there is no unix socket that only one user can open, so administration is off there.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from supervisor.contract.runtime_dir import GATEWAY_SOCKET, LOCK
from supervisor.contract.shell.hangup import Terminal

_SOCKET_PATH_BYTES: Final = 103
"""What the shortest sockaddr_un holds, less the closing NUL: that of macOS."""

_UNLIMITED_DESCRIPTORS: Final = 2**20
"""macOS says so; more clients than this have other troubles."""


class DirectoryError(Exception):
    """The runtime directory cannot be used; the text says why and what to do."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop: uvloop where it exists, which saves a tenth of a small request."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def on_end_signals(then: Callable[[], None]) -> None:
    """Call `then` on the running loop when SIGTERM or SIGINT comes."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, then)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(then))


def on_hangup(reload: Callable[[], object], end: Callable[[], None]) -> None:
    """Call `reload` on the running loop when SIGHUP comes, or `end` when the terminal was closed.

    Whoever was started with nohup outlives its terminal. Windows has no such signal.
    """
    if not hasattr(signal, "SIGHUP"):
        return
    terminal = Terminal.at_start()

    def hung_up() -> None:
        if terminal.was_closed():
            end()
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)


def raise_file_limit() -> None:
    """Let as many connections be open as this user may have: a service begins with 1024."""
    try:
        resource = importlib.import_module("resource")  # does not exist on Windows
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS says unlimited and does not mean it
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def most_descriptors() -> int | None:
    """Return how many descriptors this process may have; None on Windows, where nobody counts them."""
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return None
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return int(allowed) if allowed != resource.RLIM_INFINITY else _UNLIMITED_DESCRIPTORS


def user_id() -> int:
    """Return the user's number; on Windows, where there is none, -1."""
    return os.getuid() if hasattr(os, "getuid") else -1


def has_unix_sockets() -> bool:
    """Whether the operator's socket can be a unix socket."""
    return hasattr(asyncio, "start_unix_server")


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold the runtime directory against any other Corral as long as the block lasts.

    Does nothing where there are no unix sockets to lie in it.

    Raises:
        DirectoryError: it cannot be made or is not safe, or another Corral holds it.
    """
    if not has_unix_sockets():
        yield
        return
    if len(os.fsencode(directory / GATEWAY_SOCKET)) > _SOCKET_PATH_BYTES:
        raise DirectoryError(
            f"{directory} is too long for the path of a socket: give a shorter --runtime-dir"
        )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(directory)
        lock_fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DirectoryError(f"{directory}: {error.strerror}: give another --runtime-dir") from error
    try:
        _take(directory, lock_fd)
        yield
    finally:
        os.close(lock_fd)


def _check_owner(directory: Path) -> None:
    """A directory that others may write to could hold sockets of theirs."""
    status = directory.stat()
    if status.st_uid != user_id() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DirectoryError(
            f"{directory} belongs to another user or can be written to by others: "
            "chmod 700 it, or give another --runtime-dir"
        )


def _take(directory: Path, lock_fd: int) -> None:
    fcntl = importlib.import_module("fcntl")  # does not exist on Windows
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(lock_fd, 32, 0).decode().strip() or "unknown"
        raise DirectoryError(
            f"{directory} is in use by another Corral (process {pid}): "
            "stop it, or give this one another --runtime-dir"
        ) from error
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
