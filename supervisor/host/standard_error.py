"""Standard streams for a process that was started without some of them."""

from __future__ import annotations

import os
from typing import Final

_STANDARD_ERROR: Final = 2


def open_missing() -> None:
    """Give a process that was started without standard streams some that lead nowhere.

    Otherwise the next files that are opened get their numbers, and what is printed goes into them.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(descriptor)
