"""What each tenant was given and asks for, in virtual tokens: who is over its share comes after the others.

Virtual-token counters after Sheng et al. (arXiv 2401.00588): a grant is charged with a quarter of the prompt
and the model's mean answer, and corrected at its end, because an answer's length is not known before. What
was given is forgotten with time, so that nobody saves up for a flood, and what waits counts too, so that a
flood is seen when it comes. Tenants within their share are served in the order of arrival: sharing more
evenly than that costs everybody and helps nobody.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import exp
from typing import Final

PROMPT_SHARE: Final = 0.25
"""What a prompt's token costs, against an answer's."""
MEMORY_S: Final = 300.0
"""What was given is forgotten with this time constant; who asked for nothing so long is not active."""
MOST_REMEMBERED: Final = 4096
"""Tenants that are not active; beyond this those that asked longest ago are forgotten."""

_REBASE_S: Final = 30 * MEMORY_S
"""Counters grow with e^(t / MEMORY_S); so often they are brought back to size."""


@dataclass(slots=True)
class _Tenant:
    asked_at: float
    used: float = 0.0
    """Virtual tokens, in units that grow as memory fades."""
    queued: float = 0.0
    """Virtual tokens of what waits."""
    waiting: int = 0
    active: bool = False


@dataclass(slots=True)
class Tenants:
    """One counter a tenant, over all models. Sums are kept, so that nothing is counted anew."""

    fair_share: float
    """Over its share is more than so many times the mean of the other active tenants."""
    over: set[str] = field(default_factory=set)
    """Tenants that were over their share when they were last heard of: nobody else is."""
    _tenants: OrderedDict[str, _Tenant] = field(default_factory=OrderedDict)
    """In the order of their last asking."""
    _active: OrderedDict[str, _Tenant] = field(default_factory=OrderedDict)
    _used: float = 0.0
    """Of all active tenants."""
    _queued: float = 0.0
    _base: float = 0.0
    """When a unit was a token."""

    def asks(self, tenant: str, now: float) -> None:
        """The tenant has a new request."""
        known = self._known(tenant, now)
        known.asked_at = now
        self._tenants.move_to_end(tenant)
        if not known.active:
            known.active = True
            self._used += known.used
            self._queued += known.queued
        self._active[tenant] = known
        self._active.move_to_end(tenant)
        self._forget(now)

    def waits(self, tenant: str, tokens: float, now: float) -> None:
        """A request of the tenant, worth so many virtual tokens, began to wait."""
        known = self._known(tenant, now)
        known.waiting += 1
        known.queued += tokens
        if known.active:
            self._queued += tokens
        self._judge(tenant, known, self._unit(now))

    def waits_no_more(self, tenant: str, tokens: float) -> None:
        """A request of the tenant went away."""
        known = self._tenants[tenant]
        known.waiting -= 1
        change = -tokens if known.waiting else -known.queued
        known.queued += change
        if known.active:
            self._queued += change

    def begins(self, tenant: str, waited_as: float, tokens: float, now: float) -> None:
        """A request that waited was granted: what it counted waits no more, and so much is given."""
        known, unit = self._tenants[tenant], self._unit(now)
        known.waiting -= 1
        queued = waited_as if known.waiting else known.queued
        used = tokens * unit
        known.queued -= queued
        known.used += used
        if known.active:
            self._queued -= queued
            self._used += used
        self._judge(tenant, known, unit)

    def charge(self, tenant: str, tokens: float, now: float) -> None:
        """Add to what the tenant was given; negative to correct."""
        known = self._tenants.get(tenant) or self._known(tenant, now)
        unit = self._unit(now)
        change = max(-known.used, tokens * unit)
        known.used += change
        if known.active:
            self._used += change
        self._judge(tenant, known, unit)

    def excess(self, tenant: str, now: float) -> float:
        """Return the tenant's demand, in virtual tokens, if that is over its share, else 0."""
        if tenant not in self.over:
            return 0.0
        return self._judge(tenant, self._tenants[tenant], self._unit(now))

    def _judge(self, tenant: str, known: _Tenant, unit: float) -> float:
        """Compare with the others, and remember."""
        others = len(self._active) - known.active
        demand = known.used / unit + known.queued
        of_others = self._used / unit + self._queued - (demand if known.active else 0.0)
        if others <= 0 or demand <= self.fair_share * of_others / others:
            self.over.discard(tenant)
            return 0.0
        self.over.add(tenant)
        return demand

    def _known(self, tenant: str, now: float) -> _Tenant:
        known = self._tenants.get(tenant)
        if known is None:
            known = self._tenants[tenant] = _Tenant(now)
        return known

    def _forget(self, now: float) -> None:
        """Take out who has not asked for long and waits for nothing."""
        while self._active:
            name, first = next(iter(self._active.items()))
            if first.asked_at > now - MEMORY_S:
                break
            if first.waiting:
                first.asked_at = now
                self._active.move_to_end(name)
                continue
            first.active = False
            self.over.discard(name)
            del self._active[name]
            self._used -= first.used
            self._queued -= first.queued
        if len(self._tenants) > MOST_REMEMBERED + len(self._active):
            self._tenants = OrderedDict((n, t) for n, t in self._tenants.items() if t.active)

    def _unit(self, now: float) -> float:
        """Return what a token is worth now in the units of the counters."""
        if now - self._base > _REBASE_S:
            shrink = exp((self._base - now) / MEMORY_S)
            for known in self._tenants.values():
                known.used *= shrink
            self._used = sum(known.used for known in self._active.values())
            self._base = now
        return exp((now - self._base) / MEMORY_S)
