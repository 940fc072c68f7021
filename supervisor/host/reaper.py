"""Learns of the end of child processes from SIGCHLD, and of nothing else: nobody polls.

Decides in which order a dead child is cleaned up: first `sweep`, while the unreaped child still holds
its pid so that its process group cannot be another's yet, then the reaping, then `on_exit`. Where it
adopts, children that were orphaned to this process (it is a subreaper) are reaped and forgotten.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36


@dataclass(frozen=True, slots=True)
class _Watched:
    sweep: Callable[[], None]
    on_exit: Callable[[int], None]


@dataclass(slots=True)
class Reaper:
    """The only caller of wait(2) in the supervisor; lives on the main thread's event loop."""

    adopt: bool
    """Also reap children that nobody watches. False where other code has children of its own."""
    _watched: dict[int, _Watched] = field(default_factory=dict)

    def start(self) -> None:
        """Listen to SIGCHLD, and become the parent of what dead workers leave behind."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)
        if self.adopt:
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def stop(self) -> None:
        """Stop listening."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)

    def watch(self, pid: int, *, sweep: Callable[[], None], on_exit: Callable[[int], None]) -> None:
        """Call both, in this order, when the child ends; `on_exit` gets its status, or minus a signal."""
        self._watched[pid] = _Watched(sweep, on_exit)

    def reap(self) -> None:
        """Clean up after every child that has ended by now."""
        for pid in [pid for pid in self._watched if _has_exited(pid)]:
            watched = self._watched.pop(pid)
            watched.sweep()
            _, status = os.waitpid(pid, 0)
            watched.on_exit(os.waitstatus_to_exitcode(status))
        if self.adopt:
            self._reap_orphans()

    def _reap_orphans(self) -> None:
        while (pid := _any_exited()) is not None and pid not in self._watched:
            os.waitpid(pid, 0)


def _has_exited(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _any_exited() -> int | None:
    """Return a child that can be reaped; a watched one is left for its own signal."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid
