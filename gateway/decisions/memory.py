"""Why single requests went where they went, and what was loaded for them: the facts, kept for a while.

The same facts are what the log lines carry, as flat keys and compact lists, and what `explained` makes into
the document that `corral explain --json` prints; so a request can be explained from memory or from the log.
Decides what is kept and for how long. Knows no clock and no sockets; words are `commands/explain.py`'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

from gateway.scheduling.names import Instance, Variant
from gateway.scheduling.reasons import GrantReason, LoadOption, LoadReason, ReplicaOption
from gateway.scheduling.types import Grant, Load, Unload

Facts = dict[str, Any]
"""JSON."""

MOST_REQUESTS: Final = 1000
"""So many that have ended are remembered; those under way always are."""
MOST_LOADS: Final = 1000
_MOST_CHARACTERS: Final = 1000
"""Clients write what they like into names; a thousand requests must stay small."""
_MOST_NAMED: Final = 5

REPLICA_COLUMNS: Final = (
    "worker",
    "backlog_s",
    "prompt_s",
    "crowding_s",
    "answer_s",
    "busy",
    "slots",
    "cached",
)
"""What one free replica that was considered for a request is in a log line, in this order."""
LOAD_COLUMNS: Final = ("worker", "load_s", "drain_s", "eviction_s", "crowding_s", "slower_s", "victims")
"""The same for a worker that was considered for a load."""


class UnknownRequestError(LookupError):
    """No request of that id is remembered, or several begin like that; says so."""


@dataclass(slots=True)
class LoadTrace:
    """One load, from the decision to its end."""

    number: int
    """Counts the loads of this gateway."""
    instance: Instance
    variant: Variant
    model: str
    reason: LoadReason
    room_s: float
    """From the decision until its victims were gone."""
    unloaded: list[str]
    """Those of them that the gateway unloaded, by name."""
    victims: tuple[tuple[str, ...], ...]
    """Of each option, by name."""
    began_at: float
    """Monotonic, as all moments here that are called so."""
    ended_at: float | None = None
    error: str | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it is under way, or when it failed."""
        return None if self.ended_at is None or self.error is not None else self.ended_at - self.began_at

    def ended(self, now: float, error: str | None = None) -> None:
        """Note that it is done, or why it failed."""
        self.ended_at, self.error = now, error

    def facts(self) -> Facts:
        """Return what the line `load` carries."""
        reason = self.reason
        return {
            "load": self.number,
            "why": str(reason),
            "cause": reason.cause.name.lower(),
            "queued": reason.queued,
            "need": _round(reason.need),
            "waited_s": _round(reason.waited_s),
            "expected_wait_s": _round(reason.expected_wait_s),
            "room_s": _round(self.room_s),
            "unloaded": self.unloaded,
            "options": [_load_row(*pair) for pair in zip(reason.options, self.victims, strict=True)],
        }

    def outcome(self) -> Facts:
        """Return the same and how it ended, so far as it did."""
        at = {"worker": self.instance.worker, "model": self.model}
        return self.facts() | at | {"seconds": _round(self.seconds), "error": self.error}


@dataclass(slots=True)
class Attempt:
    """One attempt of a request at a worker, or the wait for one."""

    arrived_at: float
    """Of the request."""
    asked_s: float
    """Since the request arrived."""
    waited_s: float | None = None
    """Until the slot was granted; None when it never was."""
    grant: Grant | None = None
    load: LoadTrace | None = None
    """How the chosen replica came to be there, when it was not ready yet as the request arrived."""
    error: str | None = None

    def granted(self, grant: Grant, after_s: float, decisions: Decisions) -> None:
        """Note the slot that it got `after_s` since the request arrived."""
        self.waited_s, self.grant = after_s - self.asked_s, grant
        self.load = decisions.load_of(grant, since=self.arrived_at + self.asked_s)

    def facts(self) -> Facts:
        """Return what stands in the list `attempts` of the line `request`."""
        known = {"asked_s": _round(self.asked_s), "waited_s": _round(self.waited_s), "error": self.error}
        if self.grant is None:
            return {key: value for key, value in known.items() if value is not None}
        if self.load is not None:
            after_s = _round(self.load.reason.at - self.arrived_at)
            known |= {"load": self.load.number, "load_after_s": after_s}
        known |= _grant_facts(self.grant.instance, self.grant.reason)
        return {key: value for key, value in known.items() if value is not None}


class OpenRequest(Protocol):
    """A request under way, which tells of itself."""

    id: str
    attempts: list[Attempt]
    variant: Variant | None
    """Once the model is known."""

    def line(self) -> Facts:
        """Return what its log line would say now."""


@dataclass(frozen=True, slots=True)
class _Ended:
    id: str
    facts: Facts
    loads: tuple[LoadTrace, ...]


@dataclass(slots=True)
class Decisions:
    """What is remembered. One per gateway, fed by its runtime and its handlers on the event loop."""

    name: Callable[[Variant], str]
    """What people call a model."""
    _open: WeakValueDictionary[int, OpenRequest] = field(default_factory=WeakValueDictionary)
    """Held by those who handle them, so that none is left behind."""
    _ended: deque[_Ended] = field(default_factory=lambda: deque(maxlen=MOST_REQUESTS))
    _loads: dict[tuple[Instance, Variant], LoadTrace] = field(default_factory=dict)
    _unloads: dict[tuple[Instance, Variant], float] = field(default_factory=dict)
    _number: int = 0

    # Fed --------------------------------------------------------------------------

    def began(self, request: OpenRequest) -> None:
        """Remember a request as long as somebody handles it."""
        self._open[id(request)] = request

    def ended(self, request: OpenRequest, facts: Facts) -> None:
        """Remember how it ended."""
        self._open.pop(id(request), None)
        loads = tuple(attempt.load for attempt in request.attempts if attempt.load is not None)
        kept = {key: _cut(value) for key, value in facts.items() if key != "ignored_options"}
        self._ended.append(_Ended(request.id, kept, loads))

    def loading(self, effect: Load, now: float) -> LoadTrace:
        """Note that a load begins."""
        self._number += 1
        reason, instance = effect.reason, effect.instance
        planned = reason.options[0].victims
        gone = [v for v in planned if self._unloads.get((instance, v), reason.at - 1) >= reason.at]
        trace = LoadTrace(
            number=self._number,
            instance=instance,
            variant=effect.variant,
            model=self.name(effect.variant),
            reason=reason,
            room_s=now - reason.at,
            began_at=now,
            unloaded=[self.name(variant) for variant in gone],
            victims=tuple(tuple(map(self.name, option.victims)) for option in reason.options),
        )
        _put(self._loads, (instance, effect.variant), trace)
        return trace

    def unloading(self, effect: Unload, now: float) -> None:
        """Note that an unload begins."""
        _put(self._unloads, (effect.instance, effect.variant), now)

    def load_of(self, grant: Grant, *, since: float) -> LoadTrace | None:
        """Return the load for which a request waited `since` then: perhaps one begun for others before."""
        trace = self._loads.get((grant.instance, grant.variant))
        waited = trace is not None and trace.ended_at is not None and trace.ended_at >= since
        return trace if waited else None

    # Asked ------------------------------------------------------------------------

    def explain(self, start: str) -> Facts:
        """Return the document of the latest request with this id, or whose id alone begins like this.

        Raises:
            UnknownRequestError: there is none, or several begin like this.
        """
        open_ones = list(self._open.values())
        ids = dict.fromkeys([one.id for one in self._ended] + [request.id for request in open_ones])
        wanted = choose(start, (known for known in ids if known.startswith(start)))
        for request in open_ones:
            if request.id == wanted:
                loads = [attempt.load for attempt in request.attempts if attempt.load is not None]
                document = explained(request.line(), {load.number: load.outcome() for load in loads})
                return document | self._waiting(request)
        ended = next(one for one in reversed(self._ended) if one.id == wanted)
        return explained(ended.facts, {load.number: load.outcome() for load in ended.loads})

    def _waiting(self, request: OpenRequest) -> Facts:
        """Return what is done for a request that has no slot."""
        if not request.attempts or request.attempts[-1].waited_s is not None:
            return {"state": "running"}
        mine = (trace for trace in self._loads.values() if trace.variant == request.variant)
        coming = [trace for trace in mine if trace.ended_at is None]
        return {"state": "waiting", "loads_under_way": [_whole_load(trace.outcome()) for trace in coming]}


def choose(start: str, ids: Iterable[str]) -> str:
    """Return the id that is meant by its start.

    Raises:
        UnknownRequestError: none begins like this, or several do and none is this.
    """
    found = list(ids)
    if start in found:
        return start
    if not found:
        raise UnknownRequestError(f"no request {start!r} is known")
    if len(found) > 1:
        more = ", ..." if len(found) > _MOST_NAMED else ""
        shown = ", ".join(found[:_MOST_NAMED])
        raise UnknownRequestError(f"{len(found)} requests begin with {start!r}: {shown}{more}")
    return found[0]


# The document -----------------------------------------------------------------


def explained(request: Mapping[str, Any], loads: Mapping[int, Facts]) -> Facts:
    """Return the document of a request from the keys of its log line and those of its loads.

    Keys of lines that another version of Corral wrote may be missing; they are then missing here too.
    """
    attempts = [_whole_attempt(attempt, loads) for attempt in request.get("attempts", ())]
    started = request.get("started_unix")
    arrived = None if started is None else datetime.fromtimestamp(started, UTC).isoformat()
    return {**request, "arrived": arrived, "state": "ended", "attempts": attempts}


def _whole_attempt(attempt: Facts, loads: Mapping[int, Facts]) -> Facts:
    options = [_whole_option(REPLICA_COLUMNS, row) for row in attempt.get("options", ())]
    load = attempt.get("load")
    told = loads.get(load) if load is not None else None
    whole = None if load is None else {"load": load} if told is None else _whole_load(told)
    return {**attempt, "options": options, "load": whole}


def _whole_load(load: Facts) -> Facts:
    return {**load, "options": [_whole_option(LOAD_COLUMNS, row) for row in load.get("options", ())]}


def _whole_option(columns: Sequence[str], row: Sequence[Any]) -> Facts:
    option = dict(zip(columns, row, strict=False))
    seconds = [value for key, value in option.items() if key.endswith("_s")]
    return {**option, "total_s": _round(sum(seconds))}


# Rows -------------------------------------------------------------------------


def _grant_facts(instance: Instance, reason: GrantReason) -> Facts:
    held = {"held_s": _round(reason.held_s)} if reason.held_s else {}
    return held | {
        "worker": instance.worker,
        "turn": reason.turn.name.lower(),
        "servers": reason.servers,
        "options": [_replica_row(option) for option in reason.options],
    }


def _replica_row(option: ReplicaOption) -> list[Any]:
    seconds = [
        _round(option.backlog_s),
        _round(option.prompt_s),
        _round(option.crowding_s),
        _round(option.answer_s),
    ]
    return [option.instance.worker, *seconds, option.busy, option.slots, option.cached]


def _load_row(option: LoadOption, victims: tuple[str, ...]) -> list[Any]:
    seconds = (option.load_s, option.drain_s, option.eviction_s, option.crowding_s, option.slower_s)
    return [option.instance.worker, *map(_round, seconds), list(victims)]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _cut(value: Any) -> Any:  # noqa: ANN401 -- JSON
    return value[:_MOST_CHARACTERS] if isinstance(value, str) else value


def _put(table: dict[Any, Any], key: object, value: object) -> None:
    """Enter as the latest, and forget the oldest of too many."""
    table.pop(key, None)
    table[key] = value
    if len(table) > MOST_LOADS:
        del table[next(iter(table))]
