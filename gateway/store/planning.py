"""Which stores an operation concerns, and what the configuration forbids.

With several stores a model is pulled, made and copied wherever a worker may serve it, and deleted wherever
it is. What the operator's file says of a model comes first: it cannot be changed from here, so what would
contradict it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.store.requests import Kind, StoreRequest, identity, renamed
from gateway.store.sharing import Store
from supervisor.contract.config import ModelConfig
from supervisor.contract.wire import model_not_found

_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_UNAVAILABLE: Final = 503

MOST_BREAKS: Final = 5

Wishes = Mapping[str, ModelConfig]
"""What the operator wants of single models, by their names."""


class RefusedError(Exception):
    """The operation is not begun; the text says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Plan:
    """Where an operation takes place."""

    stores: tuple[Store, ...]
    absent: tuple[Store, ...] = ()
    """Concerned too, but none of their workers is there."""


def addressed(request: StoreRequest, wishes: Wishes) -> StoreRequest:
    """Return the request with aliases resolved where one may be used.

    Raises:
        RefusedError: it would change what an alias hides, or delete what the file wants kept.
    """
    if request.kind in {Kind.PULL, Kind.PUSH}:
        return renamed(request, model=_real(request.model, wishes) or request.model, source=request.source)
    alias_of = _real(request.model, wishes)
    if alias_of is not None:
        raise RefusedError(
            _CONFLICT,
            f"{request.model} is an alias of {alias_of} in the configuration: use that name, or take the "
            "alias out of the file",
        )
    if request.kind is Kind.DELETE and _is_kept(request.key, wishes):
        raise RefusedError(
            _CONFLICT,
            f"{request.model} is kept loaded by the configuration (pin or min_replicas): take that out of "
            "the file first",
        )
    return renamed(request, model=request.model, source=_real(request.source, wishes) or request.source)


def _real(name: str, wishes: Wishes) -> str | None:
    key = identity(name)
    return next((real for real, wish in wishes.items() if key and key in map(identity, wish.aliases)), None)


def _is_kept(key: str, wishes: Wishes) -> bool:
    kept = (identity(name) for name, wish in wishes.items() if wish.pin or wish.min_replicas)
    return key in kept


def plan(request: StoreRequest, stores: Sequence[Store]) -> Plan:
    """Return where the operation takes place.

    Raises:
        RefusedError: nowhere.
    """
    concerned = _CONCERNED[request.kind](request, stores)
    there = tuple(store for store in concerned if store.reachable)
    absent = tuple(store for store in concerned if not store.reachable)
    if not there:
        names = ", ".join(store.workers for store in absent)
        raise RefusedError(_UNAVAILABLE, f"no worker is there to do it: {names or 'there are none'}")
    return Plan(there, absent)


def needs(request: StoreRequest, store: Store) -> str:
    """Return the key of the model that a worker must list to do its part; empty when any will do."""
    wanted = {Kind.COPY: request.source_key, Kind.CREATE: request.source_key, Kind.PULL: ""}
    key = wanted.get(request.kind, request.key)
    return key if store.has(key) else ""


def overwrites(request: StoreRequest) -> bool:
    """Whether the model may come to be another than it was."""
    return request.kind in {Kind.PULL, Kind.CREATE, Kind.COPY}


def may_resume(request: StoreRequest, breaks: int) -> bool:
    """Whether to begin again after so many workers broke off without having moved anything between.

    Pulls and pushes go on where they were; what else was under way may have been done or not.
    """
    return request.kind in {Kind.PULL, Kind.PUSH} and breaks <= MOST_BREAKS


def _served(request: StoreRequest, stores: Sequence[Store]) -> list[Store]:
    serving = [store for store in stores if store.serves(request.key)]
    if stores and not serving:
        raise RefusedError(
            _BAD_REQUEST, f"no worker may serve {request.model}: it is in none of their lists of `models`"
        )
    return serving


def _for_create(request: StoreRequest, stores: Sequence[Store]) -> list[Store]:
    """A model that it starts from is pulled by the store that lacks it, unless some other has it."""
    serving = _served(request, stores)
    with_source = [store for store in serving if request.source and store.has(request.source_key)]
    return with_source or serving


def _for_copy(request: StoreRequest, stores: Sequence[Store]) -> list[Store]:
    with_source = [store for store in stores if store.has(request.source_key)]
    if stores and not with_source:
        raise RefusedError(_NOT_FOUND, f'model "{request.source}" not found')
    return _served(request, with_source)


def _for_delete(request: StoreRequest, stores: Sequence[Store]) -> list[Store]:
    holding = [store for store in stores if store.has(request.key)]
    if stores and not holding:
        raise RefusedError(_NOT_FOUND, model_not_found(request.model))
    return holding


def _for_push(request: StoreRequest, stores: Sequence[Store]) -> list[Store]:
    """One copy is enough; where there is none, a worker says so in its own words."""
    reachable = [store for store in stores if store.reachable]
    holding = [store for store in reachable if store.has(request.key)]
    return (holding or reachable or list(stores))[:1]


_CONCERNED: Final = {
    Kind.PULL: _served,
    Kind.PUSH: _for_push,
    Kind.CREATE: _for_create,
    Kind.COPY: _for_copy,
    Kind.DELETE: _for_delete,
}
