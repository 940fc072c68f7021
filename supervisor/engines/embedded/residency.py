"""Who gets a slot, which model is loaded, and which one makes room for it.

Events in, effects out; every call is atomic. The rules:

- A runner belongs to a weights file; all names over these weights share it.
- A resident model answers `slots` requests at once. Requests wait in one queue in order of arrival; a
  request passes an earlier one only when that one waits for another model.
- Loads run one at a time, for the request that waits longest for a model that is not resident (or is
  resident with another context length: then that one is replaced once it is idle).
- Room is made by unloading the idle model that was used longest ago. When all are busy, the one used
  longest ago takes no request that came after the one it must make room for.
- A load that nobody waits for any more is ended, as Ollama's is: it may be one that stands still.
- A model that could not fit even alone is refused at once.
- `keep_alive` starts when the last request of a model has ended, and stays until a request sets another.

Must not know processes, sockets or clocks; times are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

AskId = NewType("AskId", int)
Incarnation = NewType("Incarnation", int)
"""One life of one runner process."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What a runner is loaded with; one that differs in any of it is another runner."""

    weights: str
    """The file, or another one with the same in it: names over the same weights share a runner."""
    state: str
    """Of that file, so that a replaced one is loaded anew."""
    context_length: int
    """Tokens per slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request that wants a slot."""

    id: AskId
    model: str
    """The key of the name that it was asked for."""
    variant: Variant
    slots: int
    """How many the model gets if it is loaded for this request."""
    need_bytes: int
    """Estimated memory of the model once loaded."""
    keep_alive_s: float | None = None
    """Seconds, `inf` for ever, None to leave it as it is."""


class State(StrEnum):
    """Where a runner is in its life."""

    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"


@dataclass(slots=True, eq=False)
class Resident:
    """One runner and who holds its slots. Written by `Residency` alone."""

    incarnation: Incarnation
    variant: Variant
    slots: int
    size_bytes: int
    """Estimated until the runner is ready, then measured."""
    keep_alive_s: float
    used_at: float
    """When a request last came or went."""
    names: list[str]
    """Keys of the names that it was asked for, the one that it was loaded for first."""
    state: State = State.LOADING
    busy: dict[AskId, str] = field(default_factory=dict)
    """Who holds its slots, with the name each one asked for."""

    @property
    def idle(self) -> bool:
        """Ready and without a request."""
        return self.state is State.READY and not self.busy

    @property
    def expires_at(self) -> float:
        """When it will be unloaded if no request comes; while it is busy this moves on."""
        return self.used_at + self.keep_alive_s


class Reason(StrEnum):
    """Why a request gets no slot."""

    QUEUE_FULL = "queue_full"
    NO_MEMORY = "no_memory"
    LOAD_FAILED = "load_failed"


@dataclass(frozen=True, slots=True)
class Grant:
    """The request may use the runner until it leaves."""

    ask: AskId
    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request is over."""

    ask: AskId
    reason: Reason
    detail: str = ""
    """The engine's own words, of a load that failed."""
    need_bytes: int = 0
    """What the model would take, when that is too much."""


@dataclass(frozen=True, slots=True)
class Load:
    """Start a runner; report `loaded` or `load_failed`."""

    incarnation: Incarnation
    model: str
    """The name that is to be loaded, of those over these weights."""
    variant: Variant
    slots: int


@dataclass(frozen=True, slots=True)
class Unload:
    """End a runner; report `gone` when its process is over."""

    incarnation: Incarnation
    why: str


Effect = Grant | Refuse | Load | Unload


@dataclass(slots=True)
class Residency:
    """The machine. Its deadline is `next_deadline`; then `tick` is due."""

    max_loaded: int
    max_queue: int
    memory_bytes: int
    keep_alive_s: float
    """For models whose requests say nothing; `inf` is for ever."""
    _residents: dict[str, Resident] = field(default_factory=dict)
    _waiting: dict[AskId, Ask] = field(default_factory=dict)
    _leases: dict[AskId, Resident] = field(default_factory=dict)
    _victim: Resident | None = None
    """The runner that is to make room and takes no newer request."""
    _incarnations: int = 0

    @property
    def residents(self) -> tuple[Resident, ...]:
        """All runners, also those that load or unload."""
        return tuple(self._residents.values())

    @property
    def waiting(self) -> tuple[Ask, ...]:
        """Requests without a slot, in order of arrival."""
        return tuple(self._waiting.values())

    def arrived(self, ask: Ask, now: float) -> list[Effect]:
        """A request wants a slot."""
        if len(self._waiting) >= self.max_queue and not self._free_for(ask, self._victim):
            return [Refuse(ask.id, Reason.QUEUE_FULL)]
        self._waiting[ask.id] = ask
        return list(self._settle(now))

    def left(self, ask: AskId, now: float) -> list[Effect]:
        """A request has ended or its client has gone. Idempotent."""
        waited = self._waiting.pop(ask, None)
        resident = self._leases.pop(ask, None)
        if resident is not None:
            resident.busy.pop(ask, None)
            resident.used_at = now
        return [*(self._given_up(waited) if waited is not None else ()), *self._settle(now)]

    def _given_up(self, waited: Ask) -> Iterator[Effect]:
        resident = self._residents.get(waited.variant.weights)
        if resident is None or resident.state is not State.LOADING:
            return
        if all(ask.variant != resident.variant for ask in self._waiting.values()):
            yield self._end(resident, "nobody waits for it any more")

    def loaded(self, incarnation: Incarnation, size_bytes: int, now: float) -> list[Effect]:
        """A runner is ready and takes `size_bytes`."""
        resident = self._of(incarnation)
        if resident is not None and resident.state is State.LOADING:
            resident.state, resident.size_bytes, resident.used_at = State.READY, size_bytes, now
        return list(self._settle(now))

    def load_failed(self, incarnation: Incarnation, detail: str, now: float) -> list[Effect]:
        """A runner did not come up: all who wait for just this get the reason."""
        resident = self._of(incarnation)
        refused: list[Effect] = []
        if resident is not None and resident.state is State.LOADING:
            for ask in [a for a in self._waiting.values() if a.variant == resident.variant]:
                del self._waiting[ask.id]
                refused.append(Refuse(ask.id, Reason.LOAD_FAILED, detail))
        return [*refused, *self.gone(incarnation, now)]

    def gone(self, incarnation: Incarnation, now: float) -> list[Effect]:
        """A runner's process is over, wanted or not."""
        resident = self._of(incarnation)
        if resident is not None:
            del self._residents[resident.variant.weights]
            for ask in resident.busy:
                self._leases.pop(ask, None)
            resident.busy.clear()
        return list(self._settle(now))

    def unload(self, model: str, weights: str, now: float) -> list[Effect]:
        """Somebody asked for the model to go as soon as nobody uses it, under whatever name it was loaded.

        While another name over the same weights is in use, only this name goes.
        """
        resident = self._residents.get(weights)
        if resident is not None and any(name != model for name in resident.busy.values()):
            resident.names = [name for name in resident.names if name != model]
        elif resident is not None:
            resident.keep_alive_s = 0.0
        return list(self._settle(now))

    def tick(self, now: float) -> list[Effect]:
        """A deadline has passed."""
        return list(self._settle(now))

    def next_deadline(self) -> float | None:
        """When the next idle model expires."""
        return min((r.expires_at for r in self._residents.values() if r.idle), default=None)

    def _of(self, incarnation: Incarnation) -> Resident | None:
        return next((r for r in self._residents.values() if r.incarnation == incarnation), None)

    def _free_for(self, ask: Ask, victim: Resident | None) -> bool:
        resident = self._residents.get(ask.variant.weights)
        return (
            resident is not None
            and resident is not victim
            and resident.variant == ask.variant
            and resident.state is State.READY
            and len(resident.busy) < resident.slots
        )

    def _settle(self, now: float) -> Iterator[Effect]:
        """Carry the queue as far as it goes: grants first, then what has expired, then room."""
        head: Ask | None = None
        victim: Resident | None = None
        for ask in tuple(self._waiting.values()):
            if self._free_for(ask, victim):
                yield self._grant(ask, now)
            elif head is None and self._needs_load(ask):
                if ask.need_bytes > self.memory_bytes:
                    del self._waiting[ask.id]
                    yield Refuse(ask.id, Reason.NO_MEMORY, need_bytes=ask.need_bytes)
                    continue
                head, victim = ask, self._victim_for(ask)
        self._victim = victim
        yield from self._expire(now)
        if head is not None:
            yield from self._make_room(head, now)

    def _grant(self, ask: Ask, now: float) -> Grant:
        resident = self._residents[ask.variant.weights]
        del self._waiting[ask.id]
        self._leases[ask.id] = resident
        resident.busy[ask.id] = ask.model
        if ask.model not in resident.names:
            resident.names.append(ask.model)
        resident.used_at = now
        if ask.keep_alive_s is not None:
            resident.keep_alive_s = ask.keep_alive_s
        return Grant(ask.id, resident.incarnation)

    def _needs_load(self, ask: Ask) -> bool:
        resident = self._residents.get(ask.variant.weights)
        return resident is None or resident.variant != ask.variant or resident.state is State.UNLOADING

    def _victim_for(self, head: Ask) -> Resident | None:
        """Return the runner that must go before `head` can load; None while one loads or unloads."""
        residents = self._residents.values()
        if any(r.state is not State.READY for r in residents):
            return None
        own = self._residents.get(head.variant.weights)
        if own is not None or self._fits(head):
            return own
        idle = [r for r in residents if r.idle]
        if not idle and self._victim in residents:
            return self._victim
        return min(idle or residents, key=lambda r: r.used_at)

    def _fits(self, head: Ask) -> bool:
        taken = sum(r.size_bytes for r in self._residents.values())
        return len(self._residents) < self.max_loaded and taken + head.need_bytes <= self.memory_bytes

    def _expire(self, now: float) -> Iterator[Effect]:
        for resident in self._residents.values():
            if resident.idle and now >= resident.expires_at:
                yield self._end(resident, "expired")

    def _make_room(self, head: Ask, now: float) -> Iterator[Effect]:
        if any(r.state is not State.READY for r in self._residents.values()):
            return
        victim = self._victim
        if victim is None:
            yield self._load(head, now)
        elif victim.idle:
            yield self._end(victim, f"room for {head.model}")

    def _load(self, head: Ask, now: float) -> Load:
        self._incarnations += 1
        keep_alive_s = self.keep_alive_s if head.keep_alive_s is None else head.keep_alive_s
        resident = Resident(
            incarnation=Incarnation(self._incarnations),
            variant=head.variant,
            slots=head.slots,
            size_bytes=head.need_bytes,
            keep_alive_s=keep_alive_s,
            used_at=now,
            names=[head.model],
        )
        self._residents[head.variant.weights] = resident
        return Load(resident.incarnation, head.model, resident.variant, resident.slots)

    @staticmethod
    def _end(resident: Resident, why: str) -> Unload:
        resident.state = State.UNLOADING
        return Unload(resident.incarnation, why)
