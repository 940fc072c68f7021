"""Whether this process still has the terminal that it was started from.

SIGHUP means two things: an operator asks for a reload, or the terminal was closed. Decides which it is.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Final

_TERMINAL: Final = "/dev/tty"


@dataclass(frozen=True, slots=True)
class Terminal:
    """How it was when this process began."""

    ends_with_it: bool
    """It had one, and nobody (nohup) said that it is to outlive it."""

    @classmethod
    def at_start(cls) -> Terminal:
        """Look at it; to be called before SIGHUP is handled."""
        return cls(_is_there() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN)

    def was_closed(self) -> bool:
        """Whether a SIGHUP that just came means the end."""
        return self.ends_with_it and not _is_there()


def hold_hangups() -> None:
    """Keep a SIGHUP that comes before anybody listens for it; it would end a Corral that just starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def let_hangups_in() -> None:
    """Have one that was kept, and all to come, heard; processes started from now on hear theirs, too."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def _is_there() -> bool:
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
