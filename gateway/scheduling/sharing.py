"""How one model's slots are shared: a tenant that floods it leaves some to the others who use it.

Fair order alone does not help those others when all slots are held by long answers of a flood: they would
wait for one to end. So as many slots as their own rate needs stay free of the flood. Pure bookkeeping.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, exp, inf, sqrt
from typing import Final

from gateway.scheduling.estimates import FAST_S

RECENT_S: Final = 120.0
"""A tenant that asked for the model within this time is one of those who use it."""
MOST_REMEMBERED: Final = 64
"""Tenants of a model; beyond this those that are not recent are forgotten."""


@dataclass(slots=True)
class Use:
    """What a tenant has of a model, and asks for."""

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
    _rate: float = 0.0
    """Of all tenants."""
    _asked_at: float = -inf
    _latest: str = ""
    """Who asked last."""
    _another_at: float = -inf
    """When somebody else asked last."""
    _uses: dict[str, Use] = field(default_factory=dict)

    def asked(self, tenant: str, now: float) -> None:
        """Count a new request."""
        use = self._uses.get(tenant)
        if use is None:
            if len(self._uses) >= MOST_REMEMBERED:
                self._forget(now)
            use = self._uses[tenant] = Use(0.0, now)
        use.rate = _decayed(use.rate, now - use.asked_at) + 1 / FAST_S
        self._rate = _decayed(self._rate, now - self._asked_at) + 1 / FAST_S
        if tenant != self._latest:
            self._latest, self._another_at = tenant, self._asked_at
        use.asked_at = self._asked_at = now

    def took(self, tenant: str, now: float) -> Use:
        """Count a slot that was granted; return what the tenant has, to give it back there."""
        self.busy += 1
        use = self._uses.get(tenant) or self._use(tenant, now)
        use.held += 1
        return use

    def gave_back(self, use: Use) -> None:
        """Count a slot that is free again."""
        self.busy -= 1
        use.held -= 1

    def kept_from(self, tenant: str, slots: int, service_s: float, now: float) -> int:
        """Return how many of the model's `slots` are to stay free when a flooding tenant takes one more.

        What the others hold at their rate (Little's law) and its square root for chance, less what they
        hold now, at least one; but never all, and none while nobody else uses the model.
        """
        if not self.another_than(tenant, now):
            return 0
        expected = self.rate_of_others(tenant, now) * service_s
        wanted = ceil(expected + sqrt(expected) - (self.busy - self._use(tenant, now).held))
        return min(slots - 1, max(1, wanted))

    def rate_of_others(self, tenant: str, now: float) -> float:
        """Return how many requests per second come from all but this tenant."""
        own = self._use(tenant, now)
        return max(0.0, _decayed(self._rate, now - self._asked_at) - _decayed(own.rate, now - own.asked_at))

    def another_than(self, tenant: str, now: float) -> bool:
        """Whether anybody else than this tenant asked lately: who asked last, or whoever did before."""
        asked_at = self._another_at if tenant == self._latest else self._asked_at
        return now - asked_at < RECENT_S

    def _use(self, tenant: str, now: float) -> Use:
        """Return what is known of a tenant, which may have been forgotten while its requests waited."""
        use = self._uses.get(tenant)
        if use is None:
            use = self._uses[tenant] = Use(0.0, now)
        return use

    def _forget(self, now: float) -> None:
        uses = self._uses.items()
        self._uses = {name: use for name, use in uses if use.held or now - use.asked_at < RECENT_S}


def _decayed(rate: float, passed_s: float) -> float:
    return rate * exp(-passed_s / FAST_S)
