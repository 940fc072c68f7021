"""Which workers there are and which models each may serve: the gateway's view of the fleet.

Decides how names become variants and how snapshot and model lists become `WorkerView`s. State without
I/O: `fleet.py` fetches and is the only writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.scheduling.types import Instance, Variant, WorkerView
from supervisor.contract.fleet import FleetSnapshot, WorkerState, WorkerStatus
from supervisor.contract.footprint import estimate
from supervisor.contract.names import InvalidModelNameError, ModelName


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model as a worker's /api/tags lists it."""

    name: str
    variant: Variant
    row: Mapping[str, Any]
    """The whole row, to be shown to clients as it is."""

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        size = self.row.get("size")
        return size if isinstance(size, int) else 0


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """What /api/show tells of a model and /api/tags does not."""

    model_info: Mapping[str, Any]
    """The header of its file."""
    embedding: bool
    """It embeds and cannot chat."""


def key_of(name: str) -> str | None:
    """Return the identity of a model's name, or None when it can be no name."""
    try:
        return ModelName.parse(name).key
    except InvalidModelNameError:
        return None


def rows_of(tags: Mapping[str, Any]) -> dict[str, ModelRow]:
    """Return the models of an /api/tags answer by the key of their name; rows without one are left out."""
    rows: dict[str, ModelRow] = {}
    for row in tags.get("models") or []:
        name, digest = row.get("name"), row.get("digest")
        key = key_of(name) if isinstance(name, str) else None
        if key is not None and isinstance(digest, str):
            rows[key] = ModelRow(name, Variant(digest), row)
    return rows


@dataclass(slots=True)
class Roster:
    """The last fleet snapshot and, per worker, the models that were last seen in its store."""

    snapshot: FleetSnapshot | None = None
    introduced: set[Instance] = field(default_factory=set)
    """Processes whose models and residency have been read; others get no request yet."""
    catalogues: dict[str, dict[str, ModelRow]] = field(default_factory=dict)
    """By worker name; outlives the process, so that a model stays known while its worker restarts."""
    details: dict[Variant, ModelDetails] = field(default_factory=dict)

    @property
    def statuses(self) -> tuple[WorkerStatus, ...]:
        """The workers as the supervisor last told."""
        return self.snapshot.workers if self.snapshot is not None else ()

    def status(self, instance: Instance) -> WorkerStatus | None:
        """Return the worker's status if it is still this process."""
        return next((s for s in self.statuses if instance_of(s) == instance), None)

    def ready(self) -> list[WorkerStatus]:
        """Return the workers that may be given requests."""
        return [status for status in self.statuses if self._is_ready(status)]

    def awaiting_introduction(self) -> list[WorkerStatus]:
        """Return the workers that came up and have not been asked what they hold."""
        ready = (s for s in self.statuses if s.state is WorkerState.READY)
        return [status for status in ready if instance_of(status) not in self.introduced]

    def views(self) -> tuple[WorkerView, ...]:
        """Return all workers for the scheduler."""
        return tuple(self._view(status) for status in self.statuses)

    def resolve(self, name: str) -> Variant | None:
        """Return what a model's name stands for, on any worker; None when nobody has it."""
        key = key_of(name)
        for status in self.statuses:
            row = self._allowed_rows(status).get(key or "")
            if row is not None:
                return row.variant
        return None

    def model_on(self, worker: str, variant: Variant) -> ModelRow | None:
        """Return the row of the model in that worker's store."""
        rows = self.catalogues.get(worker, {}).values()
        return next((row for row in rows if row.variant == variant), None)

    def holder(self, variant: Variant) -> tuple[WorkerStatus, ModelRow] | None:
        """Return a ready worker whose store has the model."""
        for status in self.ready():
            row = self.model_on(status.worker, variant)
            if row is not None:
                return status, row
        return None

    def models(self) -> list[ModelRow]:
        """Return every model that some worker may serve, once, by name."""
        merged: dict[str, ModelRow] = {}
        for status in self.statuses:
            for key, row in self._allowed_rows(status).items():
                merged.setdefault(key, row)
        return sorted(merged.values(), key=lambda row: row.name)

    def _is_ready(self, status: WorkerStatus) -> bool:
        return status.state is WorkerState.READY and instance_of(status) in self.introduced

    def _allowed_rows(self, status: WorkerStatus) -> dict[str, ModelRow]:
        rows = self.catalogues.get(status.worker, {})
        if status.models is None:
            return rows
        allowed = {key_of(name) for name in status.models}
        return {key: row for key, row in rows.items() if key in allowed}

    def _view(self, status: WorkerStatus) -> WorkerView:
        rows = self._allowed_rows(status).values()
        return WorkerView(
            instance=instance_of(status),
            ready=self._is_ready(status),
            num_parallel=status.num_parallel,
            max_loaded_models=status.max_loaded_models,
            max_queue=status.max_queue,
            keep_alive_s=status.keep_alive_s,
            memory_bytes=status.memory_bytes,
            servable={row.variant: self._need_bytes(row, status) for row in rows},
        )

    def _need_bytes(self, row: ModelRow, status: WorkerStatus) -> int:
        details = self.details.get(row.variant)
        return estimate(
            size_bytes=row.size_bytes,
            model_info=details.model_info if details is not None else {},
            context_length=status.context_length,
            slots=status.num_parallel,
        ).total_bytes


def instance_of(status: WorkerStatus) -> Instance:
    """Return the key under which leases and residency of this process are kept."""
    return Instance(status.worker, status.incarnation)


def names_in_words(rows: Iterable[ModelRow], most: int = 10) -> str:
    """Return the models' names for an error message."""
    names = [row.name for row in rows]
    if not names:
        return "no model is there yet"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return "models here: " + ", ".join(names[:most]) + more
