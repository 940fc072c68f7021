"""What runs between the supervisor's fork and a worker's program: it ties the worker's life to ours.

Started as `python -I -S launch.py PARENT_PID CORES PROGRAM ARGUMENT…` (CORES as `0,1`, or `-` for all).
Stands alone: only the standard library, and little of it, because every start of a worker waits for it.

Why a program of its own: these calls must happen in the child, after the fork and before the exec, and
running Python code in a forked child of an event loop (`preexec_fn`) is unsafe.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CANNOT_RUN = 127
"""What a shell answers for a command that it cannot run."""


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; the tie survives exec.

    The parent may have died before the tie was made, so it is looked at once more.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the supervisor is gone")


def main(parent: str, cores: str, program: str, *arguments: str) -> None:
    """Tie, bind to the cores, and become the program."""
    try:
        die_with_parent(int(parent))
        if cores != "-":
            os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
        os.execvp(program, [program, *arguments])  # noqa: S606 -- becoming the program is the purpose
    except OSError as error:
        sys.stderr.write(f"cannot run {program}: {error}\n")
        sys.exit(_CANNOT_RUN)


if __name__ == "__main__":
    main(*sys.argv[1:])
