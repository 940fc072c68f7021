"""Which memory limits hold for a process, and whom they cost its life, by what the kernel's files say.

Reads none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import dirname, join
from typing import Final

_ROOT: Final = "/sys/fs/cgroup"
_WHOLE_MACHINE: Final = "/proc/vmstat"


def memory_limit_files(self_cgroup: str) -> tuple[str, ...]:
    """Return the files that may hold a limit, from the process's own group up to the root.

    `self_cgroup` is the text of /proc/self/cgroup: `0::/a/b` for version 2, `5:memory:/a/b` for 1.
    """
    files: list[str] = []
    for line in self_cgroup.splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            files += [join(_ROOT, path, "memory.max") for path in _upward(group)]
        elif "memory" in controllers.split(","):
            files += [join(_ROOT, "memory", path, "memory.limit_in_bytes") for path in _upward(group)]
    return tuple(files)


def kill_count_files(self_cgroup: str) -> tuple[str, ...]:
    """Return the files that may count the processes that the kernel killed for memory; the first one counts.

    The process's own group counts its own dead, whichever limit was reached; where it has no count, the
    machine's stands in for it. `self_cgroup` is the text of /proc/self/cgroup.
    """
    files: list[str] = []
    for line in self_cgroup.splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            files.append(join(_ROOT, group.lstrip("/"), "memory.events"))
        elif "memory" in controllers.split(","):
            files.append(join(_ROOT, "memory", group.lstrip("/"), "memory.oom_control"))
    return (*files, _WHOLE_MACHINE)


def parse_kill_count(text: str) -> int | None:
    """Return the count in the text of such a file, or None where it has none."""
    counts = (line.split() for line in text.splitlines())
    return next((int(words[1]) for words in counts if words[:1] == ["oom_kill"]), None)


def parse_limit(text: str) -> int | None:
    """Return the bytes of one limit file, or None where it sets none (`max`)."""
    stripped = text.strip()
    return int(stripped) if stripped.isdecimal() else None


def parse_memory_total(meminfo: str) -> int:
    """Return the bytes of RAM from the text of /proc/meminfo.

    Raises:
        ValueError: it has no line MemTotal.
    """
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise ValueError("/proc/meminfo has no line MemTotal")


def _upward(group: str) -> Iterator[str]:
    path = group
    while path not in ("/", ""):
        yield path.lstrip("/")
        path = dirname(path)
    yield ""
