"""The requests that wait for one model: whose turn it is, and how much they weigh where loads are decided.

Each tenant has a line of its own. Requests that can still meet the goal go first, in the order of arrival but
those of tenants over their share after the others; every few grants, and once the oldest has waited for long,
it is plainly the oldest's turn. Those that are barred from some workers stand in a queue of their own beside
the others, one for each such set of workers, so that who cannot be served now holds nobody up.
Decides order only; knows no more of workers than that. Nothing is scanned: a request moves from fresh to late
once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, KeysView
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

from gateway.scheduling.names import Instance, RequestId
from gateway.scheduling.reasons import Turn
from gateway.scheduling.types import Arrived

_Entry = tuple[float, RequestId]

_MOST_GONE: Final = 64
"""Entries of requests that left, beyond as many as still wait, before a line is cleared of them."""


@dataclass(frozen=True, slots=True)
class Weighing:
    """How waiting requests count where loads are decided."""

    late_weight: float
    """What a late one counts, against 1 for one that can be served in time."""
    tenant_most: float
    """What the requests of a tenant that is over its share count together at most."""


@dataclass(slots=True)
class _Line:
    """One tenant's requests by arrival; those that left are dropped when they come up."""

    fresh: deque[_Entry] = field(default_factory=deque)
    """Could still meet the goal when last looked at."""
    late: deque[_Entry] = field(default_factory=deque)
    waiting: int = 0
    hopeful: int = 0
    """Of those that wait: whom a load begun now would still serve in time."""
    weight: float = 0.0
    """What the line adds to the queue's `need`."""


@dataclass(slots=True)
class ModelQueue:
    """Per tenant first come, first served by the first arrival, so that a retry keeps its place."""

    weighing: Weighing
    need: float = 0.0
    """The weight of all that wait."""
    returned: dict[RequestId, Arrived] = field(default_factory=dict)
    """Those that come back from a worker which they avoid: they stand outside the lines."""
    waiting: dict[RequestId, Arrived] = field(default_factory=dict)
    """All of them; its length is taken so often that a `len` of the queue itself would cost too much."""
    barred: dict[frozenset[Instance], ModelQueue] = field(default_factory=dict)
    """Those of them that are barred from some workers, by these; nearly always empty."""
    is_apart: bool = False
    """It is such a queue itself, of requests that count in the model's whole queue, too."""
    _lines: dict[str, _Line] = field(default_factory=dict)
    _idle_lines: list[_Line] = field(default_factory=list)
    heavy: dict[str, _Line] = field(default_factory=dict)
    """Lines of more requests than would count if their tenants were over their share."""
    _by_age: deque[_Entry] = field(default_factory=deque)
    _fresh: deque[_Entry] = field(default_factory=deque)
    """All lines' together."""
    _hopeful: deque[_Entry] = field(default_factory=deque)
    _hopeless_since: float = -inf
    """Requests that arrived before this moment are not hopeful any more."""

    def __len__(self) -> int:
        return len(self.waiting)

    def __contains__(self, request: RequestId) -> bool:
        return request in self.waiting

    @property
    def in_line(self) -> int:
        """How many wait for whatever worker."""
        return len(self.waiting) - len(self.returned)

    def in_line_for(self, instance: Instance) -> int:
        """How many of those may be served by that worker."""
        return self.in_line - sum(queue.in_line for where, queue in self.barred.items() if instance in where)

    def is_wanted_on(self, instance: Instance) -> bool:
        """Whether somebody waits whom that worker could serve."""
        others = sum(len(queue.waiting) for where, queue in self.barred.items() if instance in where)
        return len(self.waiting) > others

    @property
    def waiting_here(self) -> int:
        """How many wait that are not apart."""
        return len(self.waiting) - sum(len(queue.waiting) for queue in self.barred.values())

    @property
    def oldest_arrival_here(self) -> float:
        """When the oldest of those arrived; infinity for none."""
        heads = [head[0] for _, head in self._heads(list(self._lines.items()))]
        apart = not self.is_apart
        back = [r.arrived_at for r in self.returned.values() if not (r.barred and apart)]
        return min(heads + back, default=inf)

    @property
    def oldest_arrival(self) -> float:
        """When the oldest arrived; infinity for an empty queue."""
        return _top(self._by_age, self.waiting)

    def push(self, request: Arrived) -> None:
        """Take a request in."""
        line = self._lines.get(request.tenant)
        if line is None:
            line = self._lines[request.tenant] = self._idle_lines.pop() if self._idle_lines else _Line()
        entry = (request.arrived_at, request.request)
        self.waiting[request.request] = request
        if request.avoid:
            self.returned[request.request] = request
        elif not request.barred or self.is_apart:
            self._stand(line, entry, request)
        if request.barred and not self.is_apart:
            self._apart_from(request.barred).push(request)
        _insert(self._by_age, entry)
        line.waiting += 1
        if self._is_hopeful(request):
            _insert(self._hopeful, entry)
            line.hopeful += 1
        self._weigh(request.tenant, line)

    def remove(self, request: RequestId) -> Arrived:
        """Take a request out that waits here, wherever it stands."""
        gone = self.waiting.pop(request)
        self.returned.pop(request, None)
        if gone.barred and not self.is_apart:
            self._leave_apart(gone)
        line = self._lines[gone.tenant]
        line.waiting -= 1
        if self._is_hopeful(gone):
            line.hopeful -= 1
        self._weigh(gone.tenant, line)
        if not line.waiting:
            del self._lines[gone.tenant]
            self._keep_for_the_next(line)
        elif len(line.fresh) + len(line.late) > 2 * line.waiting + _MOST_GONE:
            line.fresh = deque(entry for entry in line.fresh if entry[1] in self.waiting)
            line.late = deque(entry for entry in line.late if entry[1] in self.waiting)
        if not self.waiting:
            self._clear()
        return gone

    def avoid_no_more(self, request: Arrived) -> None:
        """Have a request stand in line that came back: nobody else can serve it."""
        del self.returned[request.request]
        self.waiting[request.request] = replace(request, avoid=frozenset())
        if request.barred and not self.is_apart:
            self.barred[request.barred].avoid_no_more(request)
        else:
            self._stand(self._lines[request.tenant], (request.arrived_at, request.request), request)

    def _apart_from(self, barred: frozenset[Instance]) -> ModelQueue:
        queue = self.barred.get(barred)
        if queue is None:
            queue = self.barred[barred] = ModelQueue(self.weighing, is_apart=True)
            queue.give_up_hope(self._hopeless_since)
        return queue

    def _leave_apart(self, request: Arrived) -> None:
        queue = self.barred[request.barred]
        queue.remove(request.request)
        if not queue.waiting:
            del self.barred[request.barred]

    def _stand(self, line: _Line, entry: _Entry, request: Arrived) -> None:
        """Have a request stand in line: one that nobody hurries for among those that are late."""
        if request.background:
            _insert(line.late, entry)
        else:
            _insert(line.fresh, entry)
            _insert(self._fresh, entry)

    def _is_hopeful(self, request: Arrived) -> bool:
        return request.arrived_at >= self._hopeless_since and not request.background

    def reweigh(self, weighing: Weighing) -> None:
        """Count by other weights from now on."""
        if weighing != self.weighing:
            self.weighing = weighing
            for tenant, line in self._lines.items():
                self._weigh(tenant, line)
            for queue in self.barred.values():
                queue.reweigh(weighing)

    @property
    def tenants(self) -> KeysView[str]:
        """Whose requests wait."""
        return self._lines.keys()

    def weight(self, over_share: Iterable[str]) -> float:
        """Return what those count for that are not apart, with a bound for each of those tenants."""
        most, apart = self.weighing.tenant_most, self.barred.values()
        need = self.need - sum([queue.need for queue in apart]) if apart else self.need
        return need - sum(max(0.0, self._weight_of(tenant) - most) for tenant in over_share)

    def _weight_of(self, tenant: str) -> float:
        """Return what a tenant adds to that."""
        apart = (queue._lines.get(tenant) for queue in self.barred.values())  # noqa: SLF001 -- as above
        return self._lines[tenant].weight - sum(line.weight for line in apart if line is not None)

    def is_only(self, tenant: str) -> bool:
        """Whether nobody but this tenant waits."""
        return len(self._lines) == 1 and tenant in self._lines

    def all(self) -> list[Arrived]:
        """Return the waiting requests, oldest first: for when all are told the same."""
        return sorted(self.waiting.values(), key=lambda request: (request.arrived_at, request.request))

    def all_here(self) -> list[Arrived]:
        """Return the same of those that are not apart."""
        return self.all() if self.is_apart else [request for request in self.all() if not request.barred]

    def give_up_hope(self, before: float) -> None:
        """Let requests that arrived before a moment count as late where loads are decided."""
        self._hopeless_since = max(self._hopeless_since, before)
        hopeful = self._hopeful
        while hopeful and hopeful[0][0] < before:
            request = self.waiting.get(hopeful.popleft()[1])
            if request is not None:
                line = self._lines[request.tenant]
                line.hopeful -= 1
                self._weigh(request.tenant, line)
        for queue in self.barred.values():
            queue.give_up_hope(before)

    def oldest(self, late_before: float, *, plain: bool) -> tuple[Arrived, Turn]:
        """Return whose turn it is among equals: nobody waits who is barred, over his share or comes back.

        The oldest of those that arrived at or after `late_before`, or of all if it is `plain` its turn or
        none did. Somebody must be in line.
        """
        if not plain and _top(self._fresh, self.waiting, late_before) < inf:
            return self.waiting[self._fresh[0][1]], Turn.SAVABLE
        _top(self._by_age, self.waiting)
        return self.waiting[self._by_age[0][1]], Turn.FIFO

    def next(
        self,
        late_before: float,
        *,
        plain: bool,
        excess: Callable[[str], float],
        may_take: Callable[[str, int], bool],
        can_serve: Callable[[frozenset[Instance]], bool],
    ) -> tuple[Arrived, Turn] | None:
        """Return whose turn it is; None when nobody in line may take a slot now.

        Requests that arrived before `late_before` cannot meet the goal any more. `plain` makes it the turn
        of the oldest, late or not. Else tenants with an `excess` come after the others, the largest last.
        Of all only those have a turn that `may_take` one more while so many of their requests wait, and of
        those that are barred from some workers only those for whom a free one `can_serve`.
        """
        queues = [self, *(queue for barred, queue in self.barred.items() if can_serve(barred))]
        lines = [
            (tenant, line)
            for queue in queues
            for tenant, line in queue._lines.items()  # noqa: SLF001 -- another of this kind
            if may_take(tenant, self._lines[tenant].waiting)
        ]
        turn = Turn.FIFO if plain else Turn.SAVABLE
        heads = [] if plain else self._savable_heads(lines, late_before)
        if not heads:
            turn, heads = Turn.FIFO, self._heads(lines)
        if not heads:
            return None
        if len(heads) == 1:
            return self.waiting[heads[0][1][1]], turn
        _, (_, request) = min(heads, key=lambda head: (0.0 if plain else excess(head[0]), head[1]))
        return self.waiting[request], turn

    def _savable_heads(self, lines: list[tuple[str, _Line]], late_before: float) -> list[tuple[str, _Entry]]:
        heads = ((tenant, self._savable(line, late_before)) for tenant, line in lines)
        return [(tenant, head) for tenant, head in heads if head is not None]

    def _heads(self, lines: list[tuple[str, _Line]]) -> list[tuple[str, _Entry]]:
        heads = ((tenant, self._head(line)) for tenant, line in lines)
        return [(tenant, head) for tenant, head in heads if head is not None]

    def _savable(self, line: _Line, late_before: float) -> _Entry | None:
        fresh, late, waiting = line.fresh, line.late, self.waiting
        while fresh:
            entry = fresh[0]
            if entry[1] in waiting:
                if entry[0] >= late_before:
                    return entry
                _insert(late, entry)
            fresh.popleft()
        return None

    def _head(self, line: _Line) -> _Entry | None:
        heads = [heap[0] for heap in (line.late, line.fresh) if _top(heap, self.waiting) < inf]
        return min(heads, default=None)

    def _weigh(self, tenant: str, line: _Line) -> None:
        weight = line.hopeful + self.weighing.late_weight * (line.waiting - line.hopeful)
        self.need += weight - line.weight
        line.weight = weight
        if line.waiting > self.weighing.tenant_most:
            self.heavy[tenant] = line
        else:
            self.heavy.pop(tenant, None)

    def _keep_for_the_next(self, line: _Line) -> None:
        """Keep one empty line: most queues are of one request, and a line is dear to make."""
        if not self._idle_lines:
            line.fresh.clear()
            line.late.clear()
            self._idle_lines.append(line)

    def _clear(self) -> None:
        """Forget the entries of those that left, and the rounding of sums."""
        self.need = 0.0
        self._by_age.clear()
        self._hopeful.clear()
        self._fresh.clear()


def _top(line: deque[_Entry], waiting: dict[RequestId, Arrived], late_before: float = -inf) -> float:
    """Return when the first that still waits arrived; drop those before it, and those that are late."""
    while line:
        arrived_at, request = line[0]
        if request in waiting and arrived_at >= late_before:
            return arrived_at
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
