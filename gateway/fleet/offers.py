"""Which names clients may ask for: what the stores have, each name once, and the operator's aliases.

Decides by the rule by which a request's name is understood: a name means the same model on every worker,
that of the first which has it. A worker whose store has another model under the name is not listed for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from gateway.fleet.roster import ModelRow, Roster, key_of
from gateway.surfaces.model_lists import Listed
from supervisor.contract.names import ModelName

Stores = Mapping[str, Mapping[str, ModelRow]]
"""What each worker has, by the keys of the names."""


def offers(roster: Roster) -> dict[str, Listed]:
    """Return all names that can be asked for, by their keys; an alias goes before a model of that name."""
    stores = {status.worker: roster.allowed_rows(status) for status in roster.statuses}
    first: dict[str, ModelRow] = {}
    for rows in stores.values():
        first = rows | first
    own = {key: Listed(row.name, row.row, _having(stores, key, row)) for key, row in first.items()}
    return own | _aliases(roster, own)


def offered(roster: Roster, name: str) -> Listed | None:
    """Return what a name stands for; None when nobody has it."""
    key = key_of(name)
    return None if key is None else offers(roster).get(key)


def disputed(roster: Roster) -> frozenset[tuple[str, str]]:
    """Return names with the workers whose store has another model under them than the first that has it."""
    every, stores = offers(roster), {s.worker: roster.allowed_rows(s) for s in roster.statuses}
    return frozenset(
        (row.name, worker)
        for worker, rows in stores.items()
        for key, row in rows.items()
        if not every[key].alias and worker not in every[key].workers
    )


def _having(stores: Stores, key: str, row: ModelRow) -> tuple[str, ...]:
    there = ((worker, rows.get(key)) for worker, rows in stores.items())
    return tuple(worker for worker, other in there if other is not None and other.digest == row.digest)


def _aliases(roster: Roster, own: Mapping[str, Listed]) -> dict[str, Listed]:
    """Those whose model no worker has are left out: they could not be served."""
    return {
        ModelName.parse(alias).key: replace(model, name=ModelName.parse(alias).short, alias=alias)
        for name, wish in roster.wishes.items()
        if (model := own.get(key_of(name) or "")) is not None
        for alias in wish.aliases
    }


def names_in_words(rows: Iterable[ModelRow], most: int = 10) -> str:
    """Return the models' names for an error message."""
    names = [row.name for row in rows]
    if not names:
        return "no model is there yet"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return "models here: " + ", ".join(names[:most]) + more
