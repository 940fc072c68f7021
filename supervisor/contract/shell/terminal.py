"""How wide the terminal is that a command prints to. Decides nothing."""

from __future__ import annotations

import os
import sys


def width() -> int | None:
    """Return the columns of the terminal, or None where standard output is none or does not say."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):  # a pipe, a file, or no descriptor at all
        return None
