"""Starts a child in a process group of its own and ends it together with all that it started.

Decides how a process is started, signalled and cleaned up after; not when, nor what it runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from supervisor.host import launch
from supervisor.host.guard import Guard
from supervisor.host.keeper import kill_group, kill_marked
from supervisor.host.output import OutputPipe
from supervisor.host.reaper import Reaper

CANNOT_RUN: Final = 127
"""The exit status of a process that could not be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A process to start."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """All of it; nothing is inherited."""
    cores: tuple[int, ...] = ()
    """The cores it is bound to, or empty for all."""
    inherit: tuple[int, ...] = ()
    """File descriptors it shares with us, under the same numbers."""
    on_line: Callable[[str], None] | None = None
    """Gets each line of its output; without it the child writes where we write."""


@dataclass(frozen=True, slots=True)
class Process:
    """A child and its process group. Signals go to the whole group."""

    pid: int

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def hurry(self) -> None:
        """Ask it once more, which says that there is no time.

        Not by a second SIGTERM: two of one kind are one for a process that has not heard the first yet.
        """
        self._signal(signal.SIGINT)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it."""
        kill_group(self.pid)


@dataclass(frozen=True, slots=True)
class Children:
    """Starts processes of one boot; every one is known to the reaper and to the keeper."""

    boot_id: str
    reaper: Reaper
    guard: Guard

    def spawn(self, order: Order, on_exit: Callable[[int], None]) -> Process:
        """Start the process. `on_exit` gets its status once it, and all it started, is gone.

        Must be called on the main thread: the kernel ties a child's life to the thread that forked it.

        Raises:
            OSError: the machine has no room for another process.
        """
        reading, writing = os.pipe() if order.on_line else (None, None)
        try:
            pid = _start(order, writing)
        except OSError:
            if reading is not None:
                os.close(reading)
            raise
        finally:
            if writing is not None:
                os.close(writing)
        self.guard.add(pid)
        output = OutputPipe.open(reading, order.on_line) if reading and order.on_line else None
        self._watch(pid, order.name, output, on_exit)
        return Process(pid)

    def _watch(self, pid: int, name: str, output: OutputPipe | None, on_exit: Callable[[int], None]) -> None:
        def sweep() -> None:
            kill_group(pid)
            kill_marked(self.boot_id, name)

        def ended(code: int) -> None:
            self.guard.remove(pid)
            if output is not None:
                output.finish()
            on_exit(code)

        self.reaper.watch(pid, sweep=sweep, on_exit=ended)


def _start(order: Order, output: int | None) -> int:
    """Fork by way of `launch.py`, which makes the child die with us and then becomes the program."""
    cores = ",".join(map(str, order.cores)) or "-"
    shim = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), cores)
    process = subprocess.Popen(
        (*shim, *order.argv),
        env=dict(order.env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=order.inherit,
        start_new_session=True,
    )
    process.returncode = 0  # the reaper waits for it, Popen must not
    return process.pid
