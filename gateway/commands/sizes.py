"""Sizes in words. Pure."""

from __future__ import annotations


def size_in_words(size_bytes: int) -> str:
    """Return `4.7 MB`, in the decimal units that Ollama prints."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes / 1000:.0f} kB"
