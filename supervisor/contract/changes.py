"""How each key of the file comes into force when it changes while Corral runs, and which ones did.

Decides for supervisor and gateway alike; what then has to be done is theirs to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

from supervisor.contract.config import Config


class Applied(StrEnum):
    """How a changed key of the file comes into force."""

    IN_PLACE = "in place"
    """At once, by the gateway or the supervisor; nobody notices."""
    BY_WORKERS = "by workers"
    """It is part of what workers are started with: each worker's fate says what it means."""
    BY_RESTART = "by restart"
    """Not before Corral as a whole is restarted."""


KEYS: Final[Mapping[str, Applied]] = {
    "auth": Applied.IN_PLACE,  # says that `listen` may be what it is, and no more
    "listen": Applied.BY_RESTART,
    "runtime_dir": Applied.BY_RESTART,
    "store": Applied.BY_WORKERS,
    "gguf_dir": Applied.BY_WORKERS,
    "state_dir": Applied.BY_RESTART,
    "drain_timeout": Applied.IN_PLACE,
    "cpu_workers": Applied.BY_WORKERS,
    "worker_defaults": Applied.BY_WORKERS,
    "workers": Applied.BY_WORKERS,
    "external": Applied.IN_PLACE,
    "models": Applied.IN_PLACE,
    "gateway": Applied.IN_PLACE,
    "scheduling": Applied.IN_PLACE,
    "log": Applied.IN_PLACE,
    "log.format": Applied.BY_RESTART,
}
"""Every key of the file; one of a section stands for itself where it differs from its section."""


def applied(key: str) -> Applied:
    """Return how a changed key, written with dots, comes into force."""
    section = key.partition(".")[0]
    return KEYS.get(key) or KEYS[section]


def changed_keys(old: Config, new: Config) -> tuple[str, ...]:
    """Return the keys that differ, in the order of the schema: of a section each by itself."""
    before, after = old.model_dump(), new.model_dump()
    return tuple(key for section in before for key in _changed(section, before[section], after[section]))


def _changed(key: str, before: Any, after: Any) -> Iterator[str]:  # noqa: ANN401 -- any value of the file
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        names = dict.fromkeys((*before, *after))
        yield from (f"{key}.{name}" for name in names if before.get(name) != after.get(name))
    else:
        yield key


def in_force(old: Config, new: Config) -> Config:
    """Return the new configuration with the old values of what needs a restart of Corral."""
    kept = old.model_dump()
    sections: dict[str, dict[str, Any]] = {}
    for key in changed_keys(old, new):
        if applied(key) is Applied.BY_RESTART:
            section, _, name = key.partition(".")
            sections.setdefault(section, {})[name] = kept[section][name] if name else kept[section]
    update = {
        section: values.get("") if "" in values else getattr(new, section).model_copy(update=values)
        for section, values in sections.items()
    }
    return new.model_copy(update=update)
