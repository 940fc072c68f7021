"""The stores as they are now: which workers share them, and where each of these answers.

Decides nothing: `store/sharing.py` says who shares what. Must not know of operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.fleet.departures import Departures
from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import instance_of
from gateway.store.requests import identity
from gateway.store.sharing import Member, Store, store_of, stores

COMING_S: Final = 60.0
"""For a worker to come up, at the start or after the one that did the work went away."""


@dataclass(frozen=True, slots=True)
class Sharers:
    """All workers, by what they share."""

    fleet: Fleet
    departures: Departures

    def members(self) -> list[Member]:
        """Return all workers as far as their stores are concerned."""
        roster, busy = self.fleet.roster, self.departures.busy_on()
        ready = {instance_of(status) for status in roster.ready()}
        return [
            Member(
                worker=status.worker,
                store=store_of(status),
                ready=instance_of(status) in ready,
                prunes=status.prunes,
                busy=busy.get(status.worker, 0),
                has=roster.catalogues.get(status.worker, {}).keys(),
                serves=None if status.models is None else frozenset(map(identity, status.models)),
            )
            for status in roster.statuses
        ]

    async def known(self) -> tuple[Store, ...]:
        """Return the stores, once somebody can be asked, with lists that are fresh."""
        await self.fleet.wait_for_stores(COMING_S)
        return stores(self.members())

    def base_url(self, worker: str) -> str:
        """Return where a worker answers; empty when it went away, and nobody answers there."""
        return next((s.base_url for s in self.fleet.roster.statuses if s.worker == worker), "")

    def current(self, store: Store) -> Store:
        """Return the store as it is now."""
        return next((s for s in stores(self.members()) if s.key == store.key), store)
