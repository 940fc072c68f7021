"""Counts the processes that the kernel killed because memory ran out; reads the count only when asked.

Decides nothing. Where the kernel tells no count, nothing is ever counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from supervisor.core.cgroups import kill_count_files, parse_kill_count


@dataclass(slots=True)
class KernelKills:
    """The count as it was last seen; workers are in our own control group."""

    _file: Path | None = None
    _seen: int = 0

    def __post_init__(self) -> None:
        """Find the file that counts, and what has been counted before."""
        for path in map(Path, kill_count_files(_read(Path("/proc/self/cgroup")))):
            count = parse_kill_count(_read(path))
            if count is not None:
                self._file, self._seen = path, count
                return

    def have_grown(self) -> bool:
        """Return whether there are more than when this was asked last."""
        if self._file is None:
            return False
        before, self._seen = self._seen, parse_kill_count(_read(self._file)) or self._seen
        return self._seen > before


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:  # no such controller, or outside this process's view
        return ""
