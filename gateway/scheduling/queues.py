"""The requests that wait for one model: whose turn it is, and how much they weigh where loads are decided.

Each tenant has a line of its own. Requests that can still meet the goal go first, those of the tenant that
was given least; every few grants, and once the oldest has waited for long, it is plainly the oldest's turn.
Decides order only; knows no workers. Nothing is scanned: a request moves from fresh to late once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from gateway.scheduling.names import RequestId
from gateway.scheduling.reasons import Turn
from gateway.scheduling.types import Arrived

_Entry = tuple[float, RequestId]


@dataclass(frozen=True, slots=True)
class Weighing:
    """How waiting requests count where loads are decided."""

    late_weight: float
    """What a late one counts, against 1 for one that can be served in time."""
    tenant_most: float
    """What the requests of one tenant count together at most."""
    flood: float
    """So many waiting requests of one tenant are a flood."""


class Weights(NamedTuple):
    """How much waiting requests weigh, by who else is there."""

    alone: float
    """Nobody asks for any model but one tenant."""
    beside: float
    """Others ask for other models: floods are bounded."""
    shared: float
    """Others ask for the same model: each tenant is bounded."""

    def changed(self, before: Weights, after: Weights) -> Weights:
        """Return the sum after one line's weights changed."""
        return Weights(
            self.alone + after.alone - before.alone,
            self.beside + after.beside - before.beside,
            self.shared + after.shared - before.shared,
        )


_NOTHING = Weights(0.0, 0.0, 0.0)


@dataclass(slots=True)
class _Line:
    """One tenant's requests by arrival; those that left are dropped when they come up."""

    fresh: deque[_Entry] = field(default_factory=deque)
    """Could still meet the goal when last looked at."""
    late: deque[_Entry] = field(default_factory=deque)
    waiting: int = 0
    hopeful: int = 0
    """Of those that wait: whom a load begun now would still serve in time."""
    weights: Weights = _NOTHING
    """What the line adds to the queue's `need`."""


@dataclass(slots=True)
class ModelQueue:
    """Per tenant first come, first served by the first arrival, so that a retry keeps its place."""

    weighing: Weighing
    need: Weights = _NOTHING
    """The weight of all that wait."""
    returned: dict[RequestId, Arrived] = field(default_factory=dict)
    """Those that come back from a worker which they avoid: they stand outside the lines."""
    _waiting: dict[RequestId, Arrived] = field(default_factory=dict)
    _lines: dict[str, _Line] = field(default_factory=dict)
    _by_age: deque[_Entry] = field(default_factory=deque)
    _hopeful: deque[_Entry] = field(default_factory=deque)
    _hopeless_since: float = -inf
    """Requests that arrived before this moment are not hopeful any more."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, request: RequestId) -> bool:
        return request in self._waiting

    @property
    def in_line(self) -> int:
        """How many wait for whatever worker."""
        return len(self._waiting) - len(self.returned)

    @property
    def oldest_arrival(self) -> float:
        """When the oldest arrived; infinity for an empty queue."""
        return _top(self._by_age, self._waiting)

    def push(self, request: Arrived) -> None:
        """Take a request in."""
        line = self._lines.get(request.tenant)
        if line is None:
            line = self._lines[request.tenant] = _Line()
        entry = (request.arrived_at, request.request)
        self._waiting[request.request] = request
        if request.avoid:
            self.returned[request.request] = request
        else:
            _insert(line.fresh, entry)
        _insert(self._by_age, entry)
        line.waiting += 1
        if request.arrived_at >= self._hopeless_since:
            _insert(self._hopeful, entry)
            line.hopeful += 1
        self._weigh(line)

    def remove(self, request: RequestId) -> Arrived | None:
        """Take a request out, wherever it stands; None when it does not wait here."""
        gone = self._waiting.pop(request, None)
        if gone is None:
            return None
        self.returned.pop(request, None)
        line = self._lines[gone.tenant]
        line.waiting -= 1
        if gone.arrived_at >= self._hopeless_since:
            line.hopeful -= 1
        self._weigh(line)
        if not line.waiting:
            del self._lines[gone.tenant]
        if not self._waiting:
            self._clear()
        return gone

    def reweigh(self, weighing: Weighing) -> None:
        """Count by other weights from now on."""
        if weighing != self.weighing:
            self.weighing = weighing
            for line in self._lines.values():
                self._weigh(line)

    def all(self) -> list[Arrived]:
        """Return the waiting requests, oldest first: for when all are told the same."""
        return sorted(self._waiting.values(), key=lambda request: (request.arrived_at, request.request))

    def give_up_hope(self, before: float) -> None:
        """Let requests that arrived before a moment count as late where loads are decided."""
        self._hopeless_since = max(before, self._hopeless_since)
        hopeful = self._hopeful
        while hopeful and hopeful[0][0] < before:
            request = self._waiting.get(hopeful.popleft()[1])
            if request is not None:
                line = self._lines[request.tenant]
                line.hopeful -= 1
                self._weigh(line)

    def next(
        self,
        late_before: float,
        *,
        plain: bool,
        given: Callable[[str], float],
        may_take: Callable[[str, int], bool],
    ) -> tuple[Arrived, Turn] | None:
        """Return whose turn it is; None when nobody in line may take a slot now.

        Requests that arrived before `late_before` cannot meet the goal any more. `plain` makes it the turn
        of the oldest of each tenant, late or not. Among tenants it is the one that was `given` least, of
        those that `may_take` one more while so many of their requests wait.
        """
        lines = [(tenant, line) for tenant, line in self._lines.items() if may_take(tenant, line.waiting)]
        turn = Turn.FIFO if plain else Turn.SAVABLE
        heads = [] if plain else self._savable_heads(lines, late_before)
        if not heads:
            turn, heads = Turn.FIFO, self._heads(lines)
        if not heads:
            return None
        if len(heads) == 1:
            return self._waiting[heads[0][1][1]], turn
        _, (_, request) = min(heads, key=lambda head: (given(head[0]), head[1]))
        return self._waiting[request], turn

    def _savable_heads(self, lines: list[tuple[str, _Line]], late_before: float) -> list[tuple[str, _Entry]]:
        heads = ((tenant, self._savable(line, late_before)) for tenant, line in lines)
        return [(tenant, head) for tenant, head in heads if head is not None]

    def _heads(self, lines: list[tuple[str, _Line]]) -> list[tuple[str, _Entry]]:
        heads = ((tenant, self._head(line)) for tenant, line in lines)
        return [(tenant, head) for tenant, head in heads if head is not None]

    def _savable(self, line: _Line, late_before: float) -> _Entry | None:
        fresh, late, waiting = line.fresh, line.late, self._waiting
        while fresh:
            entry = fresh[0]
            if entry[1] in waiting:
                if entry[0] >= late_before:
                    return entry
                late.append(entry)
            fresh.popleft()
        return None

    def _head(self, line: _Line) -> _Entry | None:
        heads = [heap[0] for heap in (line.late, line.fresh) if _top(heap, self._waiting) < inf]
        return min(heads, default=None)

    def _weigh(self, line: _Line) -> None:
        weighing = self.weighing
        alone = line.hopeful + weighing.late_weight * (line.waiting - line.hopeful)
        shared = min(alone, weighing.tenant_most)
        after = Weights(alone, shared if line.waiting >= weighing.flood else alone, shared)
        self.need = self.need.changed(line.weights, after)
        line.weights = after

    def _clear(self) -> None:
        """Forget the entries of those that left, and the rounding of sums."""
        self.need = _NOTHING
        self._by_age.clear()
        self._hopeful.clear()


def _top(line: deque[_Entry], waiting: dict[RequestId, Arrived]) -> float:
    """Return when the first that still waits arrived; drop those before it that do not."""
    while line:
        if line[0][1] in waiting:
            return line[0][0]
        line.popleft()
    return inf


def _insert(line: deque[_Entry], entry: _Entry) -> None:
    """Enter a request by its arrival: nearly always the last, and the first when it comes back."""
    if not line or line[-1] <= entry:
        line.append(entry)
    elif entry < line[0]:
        line.appendleft(entry)
    else:
        at = next(at for at in range(len(line) - 1, -1, -1) if line[at] <= entry)
        line.insert(at + 1, entry)
