"""A memory control group of the test's own, in which the kernel really kills what takes too much.

Needs the right to make one: a machine or container where /sys/fs/cgroup may be written to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.supervisor import eventually

ROOT = Path("/sys/fs/cgroup")


class NoMemoryGroupError(Exception):
    """No such group can be made here; the text says why."""


@dataclass(frozen=True)
class MemoryGroup:
    """Where processes share a limit."""

    path: Path
    limit_file: str

    def limit(self, limit_bytes: int) -> None:
        """Set another limit."""
        (self.path / self.limit_file).write_text(str(limit_bytes))

    @property
    def entering(self) -> tuple[str, ...]:
        """What to put before a command, so that it and all it starts are in the group."""
        return ("sh", "-c", f'echo $$ > {self.path}/cgroup.procs && exec "$@"', "sh")


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """Make a group with this limit; it is gone afterwards.

    Raises:
        NoMemoryGroupError: this is not allowed here, or there is no memory controller.
    """
    path, limit = _place()
    try:
        path.mkdir()
    except OSError as error:
        raise NoMemoryGroupError(f"no control group can be made here ({error})") from error
    try:
        try:
            (path / limit).write_text(str(limit_bytes))
            _without_swap(path, limit_bytes)
        except OSError as error:
            raise NoMemoryGroupError(f"there is no memory controller here ({error})") from error
        yield MemoryGroup(path, limit)
    finally:
        eventually(lambda: not (path / "cgroup.procs").read_text(), "the end of all in the group")
        path.rmdir()


def _place() -> tuple[Path, str]:
    """Return where the group is to be, and the name of the file with its limit."""
    name = f"corral-test-{os.getpid()}"
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):
            return ROOT / "memory" / group.lstrip("/") / name, "memory.limit_in_bytes"
    return ROOT / name, "memory.max"


def _without_swap(path: Path, limit_bytes: int) -> None:
    """Let nothing escape to a swap, where there is one."""
    for file, value in (("memory.swap.max", 0), ("memory.memsw.limit_in_bytes", limit_bytes)):
        with suppress(OSError):
            if (path / file).exists():
                (path / file).write_text(str(value))
