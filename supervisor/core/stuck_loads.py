"""When a worker is known to wait for a process that will never answer. Pure.

An Ollama that starts a runner asks it every 10 ms whether it is there, and does not stop when the runner has
died: the load comes to no end until whoever asked for it leaves, and no other load can begin. It writes a
line each time it asks a runner that a signal has ended. One such line may be about a loaded model whose
runner died; so many in a row are a load that is stuck. Of one that exits it writes a line if there were
words of its end (else none): the load is stuck if the runner that was started last did not answer yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

CERTAIN: Final = 20
"""Lines in a row: a fifth of a second."""
AGAIN: Final = 500
"""Lines after which it is told once more, should it still wait."""
PAUSE_S: Final = 1.0
"""Without a line it has ended; a machine under load may be slow to write the next one."""


@dataclass(slots=True)
class StuckLoads:
    """Hears the lines of one worker."""

    count: int = 0
    """How often a load was found stuck."""
    _in_a_row: int = 0
    _heard_at: float = -inf
    _starts: bool = False
    """A runner was started and did not answer yet; they are started one after the other."""

    def starts(self) -> None:
        """Take the line that a runner was started."""
        self._starts = True

    def answers(self) -> None:
        """Take the line that it answers, or is not waited for any more."""
        self._starts = False

    def exited(self) -> bool:
        """Take the line that some runner exited; return whether `count` has grown by it."""
        grown, self._starts = self._starts, False
        self.count += grown
        return grown

    def heard(self, now: float) -> bool:
        """Take the line about a dead one, at a monotonic time in seconds; whether `count` has grown by it."""
        self._starts = False
        self._in_a_row = self._in_a_row + 1 if now - self._heard_at < PAUSE_S else 1
        self._heard_at = now
        grown = self._in_a_row % AGAIN == CERTAIN
        self.count += grown
        return grown
