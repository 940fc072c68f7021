"""What each tenant was given, in virtual tokens: the one that was given least is served next.

The virtual-token counter of Sheng et al. (arXiv 2401.00588): a grant is charged with a quarter of the prompt
and the model's mean answer, and corrected at its end, because an answer's length is not known before. A
tenant that comes back starts with those that are active, so that nobody saves up for a flood.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from gateway.scheduling.sharing import Askers

PROMPT_SHARE: Final = 0.25
"""What a prompt's token costs, against an answer's."""
MOST_REMEMBERED: Final = 4096
"""Counters of tenants that do not wait; beyond this they are forgotten."""


@dataclass(slots=True)
class Tenants:
    """One counter a tenant, over all models."""

    _given: dict[str, float] = field(default_factory=dict)
    _waiting: dict[str, int] = field(default_factory=dict)
    """How many requests of a tenant wait."""
    askers: Askers = field(default_factory=Askers)

    def given(self, tenant: str) -> float:
        """Return the tenant's counter."""
        return self._given.get(tenant, 0.0)

    def waits(self, tenant: str) -> None:
        """A request of the tenant began to wait."""
        count = self._waiting.get(tenant, 0)
        if not count and self._waiting:
            least = min(self.given(active) for active in self._waiting)
            self._given[tenant] = max(self.given(tenant), least)
        self._waiting[tenant] = count + 1

    def waits_no_more(self, tenant: str) -> None:
        """A request of the tenant was granted, or went away."""
        count = self._waiting[tenant] - 1
        if count:
            self._waiting[tenant] = count
            return
        del self._waiting[tenant]
        if len(self._given) > MOST_REMEMBERED + len(self._waiting):
            self._given = {active: self.given(active) for active in self._waiting}

    def charge(self, tenant: str, tokens: float) -> None:
        """Add to what the tenant was given; negative to correct."""
        self._given[tenant] = self.given(tenant) + tokens
