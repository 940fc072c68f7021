"""The requests that wait for a model, in the order of their first arrival.

Decides order only; knows no workers.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.scheduling.names import RequestId
from gateway.scheduling.types import Arrived


@dataclass(slots=True)
class ModelQueue:
    """FIFO by first arrival: a request that comes back after a failed attempt keeps its place.

    Fresh requests arrive in order, so that a dict keeps them; the few that come back are sorted.
    """

    _returned: list[tuple[float, RequestId]] = field(default_factory=list)
    _waiting: dict[RequestId, Arrived] = field(default_factory=dict)
    _newest: float = float("-inf")

    def push(self, request: Arrived) -> None:
        """Add a request behind all that arrived before it."""
        self._waiting[request.request] = request
        if request.arrived_at < self._newest:
            insort(self._returned, (request.arrived_at, request.request))
        self._newest = max(self._newest, request.arrived_at)

    def remove(self, request: RequestId) -> Arrived | None:
        """Take a request out, wherever it stands; None when it does not wait here."""
        gone = self._waiting.pop(request, None)
        if gone is not None and self._returned:
            self._returned = [entry for entry in self._returned if entry[1] != request]
        return gone

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Arrived]:
        """Yield the waiting requests, first arrival first."""
        if not self._returned:
            return iter(tuple(self._waiting.values()))
        return iter(sorted(self._waiting.values(), key=_arrival))

    @property
    def oldest_arrival(self) -> float:
        """When the head arrived; infinity for an empty queue."""
        fresh = next(iter(self._waiting.values()), None)
        if fresh is None:
            return float("inf")
        return min(fresh.arrived_at, self._returned[0][0]) if self._returned else fresh.arrived_at


def _arrival(request: Arrived) -> float:
    return request.arrived_at
