"""What follows when the kernel kills a worker's processes because memory ran out.

Each such end within the last hour costs a CPU worker a part of the memory that it was given: what was given
was too much for this machine, whoever took the rest. A GPU worker's models lie elsewhere, so there it is only
told. Must not know how an end is found out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from supervisor.core.fleet import Note
from supervisor.core.memory import gib

REMEMBERED_S: Final = 3600.0
KEPT_SHARE: Final = 0.8
"""Of its memory that a worker keeps, for each end that is remembered."""
LEAST_SHARE: Final = 0.4
"""It never keeps less: beyond that it is not this worker that takes too much."""


@dataclass(slots=True)
class MemoryKills:
    """The ends of one worker's processes. Times are monotonic seconds."""

    computes_on_cpu: bool
    _at: list[float] = field(default_factory=list)

    def killed(self, now: float) -> None:
        """One more."""
        self._at.append(now)

    def note(self, given_bytes: int, now: float) -> Note:
        """Return what there is to tell now of a worker that was given so much memory."""
        self._at = [at for at in self._at if now - at < REMEMBERED_S]
        if not self._at:
            return Note()
        times = "once" if len(self._at) == 1 else f"{len(self._at)} times"
        told = f"the kernel killed a process of it {times} within an hour because memory ran out"
        if not self.computes_on_cpu:
            return Note(told)
        withheld = given_bytes - int(given_bytes * max(LEAST_SHARE, KEPT_SHARE ** len(self._at)))
        lower = f"its models get {gib(withheld)} less of {gib(given_bytes)} for an hour: lower its `memory`"
        return Note(f"{told}; {lower}", withheld)

    def next_deadline(self) -> float | None:
        """Return when the oldest end is forgotten; None when none is remembered."""
        return self._at[0] + REMEMBERED_S if self._at else None
