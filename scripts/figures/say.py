"""Tells people who wait what is going on."""

from __future__ import annotations

import sys


def say(step: str) -> None:
    """Show it on standard error, where it does not mix with the figures."""
    print(f"{step} ...", file=sys.stderr, flush=True)
