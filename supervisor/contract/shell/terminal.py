"""How wide the terminal is that a program prints to. Decides nothing."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def width(stream: TextIO | None = None) -> int | None:
    """Return the columns of the terminal that the stream (standard output) is; None where it is none."""
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or None
    except (OSError, ValueError):  # a pipe, a file, or nothing of the system's
        return None
