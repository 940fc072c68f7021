"""Standard error as somewhere to write to without ever waiting for who reads it.

A pipe that nobody empties blocks whoever writes; so does a terminal that was stopped with Ctrl-S. Setting
O_NONBLOCK would set it for everybody who shares the descriptor, a shell or the supervisor among them, so the
same pipe or terminal is opened once more. Must not know what is written.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from functools import partial
from typing import Final

_STANDARD_ERROR: Final = 2


def taker(descriptor: int = _STANDARD_ERROR) -> Callable[[bytes], int]:
    """Return what writes as many bytes as can be written at once; it raises OSError where that is none.

    Files on a disk are written to as they are, and so is what may not be opened again, or not on this system.
    """
    if not hasattr(os, "O_CLOEXEC"):  # Windows
        return partial(os.write, descriptor)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            journal = socket.socket(fileno=os.dup(descriptor))
            return lambda data: journal.send(data, socket.MSG_DONTWAIT)
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
            return partial(os.write, os.open(f"/proc/self/fd/{descriptor}", flags))
    except OSError:  # no /proc, or another user's pipe
        pass
    return partial(os.write, descriptor)
