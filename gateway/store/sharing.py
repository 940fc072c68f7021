"""Which workers share a store, and which of them changes it.

One process changes a store at a time where that is possible: there are no locks in it, and two processes
that download the same blob write into the same file. So it is always the same worker while that is up: the
one that may delete what a change leaves unused, which the others must not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from supervisor.contract.fleet import DeviceKind, WorkerStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A worker as far as its store is concerned."""

    worker: str
    store: str
    """Equal for workers that share it."""
    ready: bool = True
    prunes: bool = False
    busy: int = 0
    """Answers that it computes now."""
    has: Collection[str] = ()
    """Keys of the models that it listed last."""
    serves: Collection[str] | None = None
    """Keys of the models that it is dedicated to; None is any."""


@dataclass(frozen=True, slots=True)
class Store:
    """A store with the workers that share it."""

    key: str
    members: tuple[Member, ...]

    @property
    def workers(self) -> str:
        """Its workers, for people."""
        return ", ".join(member.worker for member in self.members)

    def has(self, key: str) -> bool:
        """Whether a model is there."""
        return any(key in member.has for member in self.members)

    def serves(self, key: str) -> bool:
        """Whether any of its workers may serve a model."""
        return any(member.serves is None or key in member.serves for member in self.members)

    @property
    def reachable(self) -> bool:
        """Whether somebody could change it now."""
        return any(member.ready for member in self.members)


def store_of(status: WorkerStatus) -> str:
    """Return what tells a worker's store apart: somebody else's worker has one of its own.

    Workers of a supervisor that does not tell share one: two downloads into one store would spoil it, while
    a change that is not made twice where it could be does no harm.
    """
    remote = any(device.kind is DeviceKind.REMOTE for device in status.devices)
    return f"external {status.worker}" if remote else status.store


def stores(members: Iterable[Member]) -> tuple[Store, ...]:
    """Return the stores, in the order of their first workers."""
    shared: dict[str, list[Member]] = {}
    for member in members:
        shared.setdefault(member.store, []).append(member)
    return tuple(Store(key, tuple(workers)) for key, workers in shared.items())


def writer(store: Store, *, holding: str = "", avoid: Collection[str] = ()) -> Member | None:
    """Return who changes the store; None when nobody can now.

    `holding` is the key of a model that it must have, for what needs one; workers to `avoid` are taken only
    when there are no others.
    """
    ready = [member for member in store.members if member.ready and (not holding or holding in member.has)]
    willing = [member for member in ready if member.worker not in avoid] or ready
    return min(willing, key=lambda member: (not member.prunes, member.busy), default=None)
