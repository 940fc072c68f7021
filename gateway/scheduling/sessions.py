"""Where a conversation was answered last, so that its prefix may still be cached there.

Remembers the last `MOST_REMEMBERED` conversations; knows nothing of replicas.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from gateway.scheduling.names import Instance, Variant

MOST_REMEMBERED: Final = 10_000

_Key = tuple[str, Variant]


@dataclass(slots=True)
class Sessions:
    """The last place of each conversation, by model."""

    _places: OrderedDict[_Key, tuple[Instance, int]] = field(default_factory=OrderedDict)

    def answered(self, session: str, variant: Variant, instance: Instance, prompt_tokens: int) -> None:
        """Remember that a prompt of so many tokens was read there."""
        if not session:
            return
        self._places[session, variant] = (instance, prompt_tokens)
        self._places.move_to_end((session, variant))
        if len(self._places) > MOST_REMEMBERED:
            self._places.popitem(last=False)

    def cached(self, session: str, variant: Variant) -> tuple[Instance, int] | None:
        """Return where the conversation was last and how many of its tokens are cached there at most."""
        return self._places.get((session, variant)) if session else None
