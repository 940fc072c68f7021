"""How one model's slots are shared: a tenant that floods it leaves some to the others who use it.

Fair order alone does not help those others when all slots are held by long answers of a flood: they would
wait for one to end. So as many slots as their own rate needs stay free of the flood. Pure bookkeeping.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, exp, sqrt
from typing import Final

from gateway.scheduling.estimates import FAST_S

RECENT_S: Final = 120.0
"""A tenant that asked for the model within this time is one of those who use it."""
MOST_REMEMBERED: Final = 64
"""Tenants of a model; beyond this those that are not recent are forgotten."""


@dataclass(slots=True)
class _Use:
    rate: float
    """Requests per second, decayed."""
    asked_at: float
    held: int = 0
    """Slots."""


@dataclass(slots=True)
class Sharing:
    """Who uses a model, how often, and with how many slots."""

    busy: int = 0
    """Slots that are taken."""
    _uses: dict[str, _Use] = field(default_factory=dict)

    def asked(self, tenant: str, now: float) -> None:
        """Count a new request."""
        use = self._uses.get(tenant)
        if use is None:
            if len(self._uses) >= MOST_REMEMBERED:
                self._forget(now)
            self._uses[tenant] = _Use(1 / FAST_S, now)
            return
        use.rate = use.rate * exp((use.asked_at - now) / FAST_S) + 1 / FAST_S
        use.asked_at = now

    def took(self, tenant: str, now: float) -> None:
        """Count a slot that was granted."""
        self.busy += 1
        self._uses.setdefault(tenant, _Use(0.0, now)).held += 1

    def gave_back(self, tenant: str) -> None:
        """Count a slot that is free again."""
        self.busy -= 1
        self._uses[tenant].held -= 1

    def kept_from(self, tenant: str, slots: int, service_s: float, now: float) -> int:
        """Return how many of the model's `slots` are to stay free when a flooding tenant takes one more.

        What the others hold at their rate (Little's law) and its square root for chance, less what they
        hold now, at least one; but never all, and none while nobody else uses the model.
        """
        others = [use for name, use in self._uses.items() if name != tenant]
        if not any(now - use.asked_at < RECENT_S for use in others):
            return 0
        rate = sum(use.rate * exp((use.asked_at - now) / FAST_S) for use in others)
        expected = rate * service_s
        wanted = ceil(expected + sqrt(expected) - sum(use.held for use in others))
        return min(slots - 1, max(1, wanted))

    def _forget(self, now: float) -> None:
        uses = self._uses.items()
        self._uses = {name: use for name, use in uses if use.held or now - use.asked_at < RECENT_S}
