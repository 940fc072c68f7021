"""What runs before a program that counts cores in /proc/cpuinfo: it sees there only those it is bound to.

Started as `python -I -S own_cores.py PROGRAM ARGUMENT…` by a process that is bound already. Ollama starts a
thread for each core of the machine, whatever its affinity, and its threads wait for each other by spinning:
two of them on one core are fifteen times slower than one. No variable of its says how many there may be.

The file is covered in a mount namespace of this process alone. Where the kernel does not allow that, the
program runs all the same, and one line says what is lost. Stands alone, as `launch.py` does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
from collections.abc import Collection

_CPUINFO = "/proc/cpuinfo"
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def stanzas_of(cpuinfo: str, cores: Collection[int]) -> str:
    """Return the paragraphs of /proc/cpuinfo that are about these cores."""
    paragraphs = cpuinfo.split("\n\n")
    return "".join(f"{text}\n\n" for text in paragraphs if _core_of(text) in cores)


def _core_of(paragraph: str) -> int | None:
    for line in paragraph.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "processor":
            return int(value)
    return None


def _check(result: int, call: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")


def _leave_mounts() -> None:
    """Get mounts of our own: by privilege, else by a user namespace in which we are who we were."""
    if _LIBC.unshare(_CLONE_NEWNS) != 0:
        user, group = os.getuid(), os.getgid()
        _check(_LIBC.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare")
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 -- pathlib is slow to import
                file.write(text)
    _check(_LIBC.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount private")


def _cover(content: str) -> None:
    """Put this content over /proc/cpuinfo; its file lives on without a name."""
    descriptor, path = tempfile.mkstemp(prefix="corral-cpuinfo-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        _check(_LIBC.mount(path.encode(), _CPUINFO.encode(), None, _MS_BIND, None), "mount")
    finally:
        os.unlink(path)  # noqa: PTH108 -- pathlib is slow to import


def _show_own_cores() -> None:
    parent = os.getppid()
    with open(_CPUINFO, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 -- pathlib is slow to import
        own = stanzas_of(file.read(), os.sched_getaffinity(0))
    if own:
        _leave_mounts()
        _check(_LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")  # new credentials may end it
        if os.getppid() != parent:
            sys.exit("the supervisor is gone")
        _cover(own)


def main(program: str, *arguments: str) -> None:
    """Cover the file and become the program."""
    try:
        _show_own_cores()
    except OSError as error:
        sys.stderr.write(
            f"{program} will start a thread for each core of the machine and be slow, because its own cores "
            f"cannot be shown to it ({error.strerror or error}): allow namespaces, or take engine: embedded\n"
        )
    os.execvp(program, [program, *arguments])  # noqa: S606 -- becoming the program is the purpose


if __name__ == "__main__":
    main(*sys.argv[1:])
