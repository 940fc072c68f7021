"""What a new configuration changes of a running Corral: the plan, before anything is done.

Decides what becomes of each worker and in which order, which settings change in place, and which need a
restart of Corral as a whole. A worker is stopped only if its process would have to be started otherwise than
it was; the same limits told anew are no reason to lose its models. Pure: knows no engine (`process_of` says
what a process is started with), no processes and no time.

Order: as few workers as possible are away at once. A changed worker goes and comes back before the next one
goes; a worker starts only where nobody who has to go still holds a GPU that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from supervisor.contract.changes import Applied, applied, changed_keys
from supervisor.contract.config import Config
from supervisor.core.spec import WorkerSpec

_FILE_NAMES: Final[Mapping[str, str]] = {
    "gpu_uuids": "gpus",
    "cpu_cores": "cores",
    "keep_alive_s": "keep_alive",
    "memory_bytes": "memory",
    "load_timeout_s": "gateway.load_timeout",
    "prunes": "store",
}
"""What the file calls a field of a specification, where that differs."""
_SAID_BY_OTHERS: Final = frozenset({"name", "devices", "gpu_vendor"})


class Fate(StrEnum):
    """What becomes of a worker."""

    UNCHANGED = "unchanged"
    ADJUSTED = "adjusted"
    """Its limits change, and its process and models stay."""
    CHANGED = "changed"
    """It drains and is started anew."""
    REMOVED = "removed"
    """It drains and does not come back."""
    NEW = "new"


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """One worker's fate."""

    name: str
    fate: Fate
    keys: tuple[str, ...] = ()
    """What changes of it, as the file calls it."""


@dataclass(frozen=True, slots=True)
class Step:
    """Drain and stop these; once they are gone start those, and wait until they are ready."""

    stop: tuple[str, ...]
    start: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a reload does."""

    workers: tuple[WorkerPlan, ...]
    """Those of the new file in its order, then those that go."""
    steps: tuple[Step, ...]
    in_place: tuple[str, ...]
    """Keys that come into force at once."""
    by_restart: tuple[str, ...]
    """Keys that do not come into force before Corral is restarted."""

    @property
    def changes_nothing(self) -> bool:
        """Whether there is nothing to do and nothing to tell."""
        same = all(worker.fate is Fate.UNCHANGED for worker in self.workers)
        return same and not self.in_place and not self.by_restart


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """A configuration and the workers that it means on this machine."""

    config: Config
    specs: tuple[WorkerSpec, ...]


def plan(old: Arrangement, new: Arrangement, *, process_of: Callable[[WorkerSpec], object]) -> Plan:
    """Return what has to be done so that `new` holds where `old` did.

    `process_of` returns what a worker's process is started with, but for its port.
    """
    before = {spec.name: spec for spec in old.specs}
    after = {spec.name: spec for spec in new.specs}
    workers = [_fate(before.get(name), spec, process_of) for name, spec in after.items()]
    workers += [WorkerPlan(name, Fate.REMOVED) for name in before if name not in after]
    changed = changed_keys(old.config, new.config)
    return Plan(
        workers=tuple(workers),
        steps=tuple(_steps(workers, before, after)),
        in_place=tuple(key for key in changed if applied(key) is Applied.IN_PLACE),
        by_restart=tuple(key for key in changed if applied(key) is Applied.BY_RESTART),
    )


def _fate(
    before: WorkerSpec | None, after: WorkerSpec, process_of: Callable[[WorkerSpec], object]
) -> WorkerPlan:
    if before is None:
        return WorkerPlan(after.name, Fate.NEW)
    if before == after:
        return WorkerPlan(after.name, Fate.UNCHANGED)
    same_process = process_of(before) == process_of(after)
    return WorkerPlan(after.name, Fate.ADJUSTED if same_process else Fate.CHANGED, _differing(before, after))


def _differing(before: WorkerSpec, after: WorkerSpec) -> tuple[str, ...]:
    names = [f.name for f in fields(WorkerSpec) if getattr(before, f.name) != getattr(after, f.name)]
    told = [name for name in names if name not in _SAID_BY_OTHERS] or names
    return tuple(dict.fromkeys(_FILE_NAMES.get(name, name) for name in told))


# For people and programs --------------------------------------------------------------


def as_json(found: Plan) -> dict[str, Any]:
    """Return the plan for programs, with its text for people."""
    return {
        "workers": [{"worker": w.name, "fate": w.fate, "keys": list(w.keys)} for w in found.workers],
        "steps": [{"stop": list(step.stop), "start": list(step.start)} for step in found.steps],
        "in_place": list(found.in_place),
        "by_restart": list(found.by_restart),
        "text": as_text(found),
    }


def as_text(found: Plan) -> list[str]:
    """Return the plan in lines."""
    if found.changes_nothing:
        return ["nothing changes"]
    lines = [f"worker {worker.name}: {_told(worker)}" for worker in found.workers]
    lines += [f"{key}: changes in place" for key in found.in_place]
    return lines + [
        f"{key}: is NOT applied, because it needs a restart of Corral" for key in found.by_restart
    ]


def _told(worker: WorkerPlan) -> str:
    keys = ", ".join(worker.keys)
    match worker.fate:
        case Fate.UNCHANGED:
            return "unchanged, keeps its models"
        case Fate.ADJUSTED:
            return f"takes {keys} in place, keeps its models"
        case Fate.CHANGED:
            return f"drains and is started anew ({keys})"
        case Fate.REMOVED:
            return "drains and goes"
        case Fate.NEW:
            return "is new"


# The order ----------------------------------------------------------------------------


def _steps(
    workers: Sequence[WorkerPlan], before: Mapping[str, WorkerSpec], after: Mapping[str, WorkerSpec]
) -> Iterator[Step]:
    going = {w.name: before[w.name] for w in workers if w.fate in (Fate.CHANGED, Fate.REMOVED)}
    changed = [w.name for w in workers if w.fate is Fate.CHANGED]
    new = [w.name for w in workers if w.fate is Fate.NEW]
    coming = {name: after[name] for name in (*changed, *new)}
    while coming:
        stop: tuple[str, ...] = ()
        start = _free(coming, going, new)
        if not start:
            first = next(iter(coming.values()))
            stop = tuple(n for n, spec in going.items() if _in_the_way(spec, first, new=first.name in new))
            going = {name: spec for name, spec in going.items() if name not in stop}
            start = _free(coming, going, new)
        coming = {name: spec for name, spec in coming.items() if name not in start}
        yield Step(stop, start)
    if going:
        yield Step(tuple(going), ())


def _free(
    coming: Mapping[str, WorkerSpec], going: Mapping[str, WorkerSpec], new: Sequence[str]
) -> tuple[str, ...]:
    """Return those for whom everybody has gone who was in the way."""
    return tuple(
        name
        for name, spec in coming.items()
        if not any(_in_the_way(other, spec, new=name in new) for other in going.values())
    )


def _in_the_way(going: WorkerSpec, coming: WorkerSpec, *, new: bool) -> bool:
    """Whether one must be gone before the other starts: they are one, or would share a GPU or its memory.

    CPU workers share the RAM, each with its part; those that stay are changed one by one, and a new one finds
    its part once those before it have been.
    """
    if going.name == coming.name:
        return True
    if going.gpu_uuids or coming.gpu_uuids:
        return not set(going.gpu_uuids).isdisjoint(coming.gpu_uuids)
    return new
