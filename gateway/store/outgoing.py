"""Names under which a model that is being replaced can still be reached.

A worker unloads by name. Once a name stands for other weights, what it stood for before could not be
unloaded any more, and Ollama would keep it in memory. So before a model is overwritten it gets a
second name, which no client sees, and which is deleted when the old weights have left all memories.
"""

from __future__ import annotations

import hashlib
from typing import Final

from supervisor.contract.names import DEFAULT_HOST

_NAMESPACE: Final = "corral-outgoing"
_DIGITS: Final = 16


def stand_in_for(key: str, listed: str) -> str:
    """Return the second name of the model with that key that is listed as this."""
    return f"{_NAMESPACE}/{_short(key)}:{_short(listed)}"


def is_stand_in(key: str) -> bool:
    """Whether a model's key is that of such a name."""
    return key.startswith(f"{DEFAULT_HOST}/{_NAMESPACE}/")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
