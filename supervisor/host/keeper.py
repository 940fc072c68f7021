"""Outlives the supervisor by a moment, to end every process that it has left behind.

Started as `python -I -S keeper.py BOOT_ID` in a session of its own, its standard input a pipe whose other
end only the supervisor holds. `+PGID` and `-PGID` lines tell which process groups exist. The end of the
pipe means that the supervisor is gone, however it died: then each group gets SIGKILL, and so does every
process that carries the boot's marker in its environment, in whatever session it hides.

Stands alone: only the standard library. `kill_marked` is also what the supervisor itself uses when one
worker ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator

MARKER = b"CORRAL_WORKER="
"""Equal to `supervisor.core.pinning.MARKER`, by test."""


def kill_group(pgid: int) -> None:
    """SIGKILL the group if there is still one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, signal.SIGKILL)


def kill_marked(boot_id: str, worker: str | None = None) -> set[int]:
    """SIGKILL what carries the marker of this worker, or of any of the boot; return the pids.

    Looks again until nothing new turns up: a process may fork while we look.
    """
    seen: set[int] = set()
    name = "" if worker is None else f"{worker}\0"  # gpu1 is not gpu10
    marker = b"\0" + MARKER + f"{boot_id}/{name}".encode()
    while found := set(_marked(marker)) - seen:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        seen |= found
    return seen


def _marked(marker: bytes) -> Iterator[int]:
    for entry in os.listdir("/proc"):  # noqa: PTH208 -- pathlib would double this small process
        if entry.isdigit() and int(entry) != os.getpid() and marker in _environment(entry):
            yield int(entry)


def is_marked(pid: int, boot_id: str) -> bool:
    """Return whether a process carries the marker of this boot."""
    return b"\0" + MARKER + f"{boot_id}/".encode() in _environment(str(pid))


def _environment(pid: str) -> bytes:
    """Return the environment of a process, with a NUL before each variable; empty if it is not ours."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 -- as above
            return b"\0" + file.read()
    except OSError:
        return b""


def follow(lines: Iterable[str]) -> set[int]:
    """Read until the pipe ends; return the groups that exist then."""
    groups: set[int] = set()
    for line in lines:
        sign, pgid = line[:1], line[1:].strip()
        if pgid.isdigit():
            (groups.add if sign == "+" else groups.discard)(int(pgid))
    return groups


def main(boot_id: str) -> None:
    """Wait for the supervisor's end, then clean up after it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it has to outlive whatever ends the supervisor
    groups = follow(sys.stdin)
    for pgid in groups:
        kill_group(pgid)
    kill_marked(boot_id)


if __name__ == "__main__":
    main(sys.argv[1])
