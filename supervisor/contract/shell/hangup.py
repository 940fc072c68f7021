"""What a SIGHUP means: somebody asks for a reload, or the terminal that a program began on was closed.

Decides which it is, for both programs; does neither.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Final

_TERMINAL: Final = "/dev/tty"


@dataclass(frozen=True, slots=True)
class Terminal:
    """How it was when this process began. Only where there is a SIGHUP."""

    ends_with_it: bool
    """It had one, and nobody (nohup) said that it is to outlive it."""

    @classmethod
    def at_start(cls) -> Terminal:
        """Look at it; to be called before SIGHUP is handled."""
        return cls(_is_there() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN)

    def was_closed(self) -> bool:
        """Whether a SIGHUP that just came means the end."""
        return self.ends_with_it and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
