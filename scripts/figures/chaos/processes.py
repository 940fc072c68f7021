"""What /proc tells of processes: children, descriptors, connections, and who carries a mark of Corral's."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

MARK: Final = "CORRAL_WORKER"
"""In the environment of each worker and whatever it starts: `BOOT/NAME`."""
_GONE: Final = (FileNotFoundError, ProcessLookupError, PermissionError)
_ESTABLISHED: Final = "01"
_STATES: Final = {_ESTABLISHED: "established", "08": "close-wait"}


def runs(pid: int) -> bool:
    """Return whether the process runs; a zombie does not, and its descriptors are closed."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except _GONE:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's children, whichever thread started them."""
    with suppress(*_GONE):
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sorted(int(child) for task in tasks for child in (task / "children").read_text().split())
    return []


def descriptors_of(pid: int) -> list[str]:
    """Return what a process has open, by the kernel's names."""
    found = []
    with suppress(*_GONE):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(*_GONE):
                found.append(str(entry.readlink()))
    return found


def kinds_of(descriptors: Iterable[str]) -> Counter[str]:
    """Return how many of each sort these are: `pipe`, `socket`, `tcp to 41235 established`."""
    peers = {f"socket:[{row[9]}]": row for row in _tcp()}
    return Counter(_kind(name, peers) for name in descriptors)


def connected_to(port: int) -> str:
    """Return the sort of a connection to a local port."""
    return f"tcp to {port} {_STATES[_ESTABLISHED]}"


def _kind(name: str, peers: Mapping[str, Sequence[str]]) -> str:
    if name in peers:
        state, port = peers[name][3], int(peers[name][2].partition(":")[2], 16)
        return f"tcp to {port} {_STATES.get(state, state)}"
    return name.partition("[")[0].strip(":")


def _tcp() -> list[list[str]]:
    return [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]


def mark_of(pid: int) -> str:
    """Return the value of the mark in a process's environment, or nothing."""
    with suppress(*_GONE):
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name == MARK.encode():
                return value.decode()
    return ""


def marked(boot: str) -> dict[int, str]:
    """Return the processes that carry the mark of a boot, with the worker's name."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208 -- names, no paths
    marks = {pid: mark_of(pid) for pid in pids if runs(pid)}
    return {pid: mark.partition("/")[2] for pid, mark in marks.items() if mark.startswith(f"{boot}/")}


def connections_to(port: int) -> list[str]:
    """Return the states of the connections that a listener on this IPv4 port has open, on its side."""
    return [
        _STATES[state]
        for _, local, _, state, *_ in _tcp()
        if state in _STATES and int(local.partition(":")[2], 16) == port
    ]
