"""What `corral install --systemd` does to a machine, as a plan, and what the operator must know of it.

Decides which files are written, kept or left alone and what is said about them. Must not know how files are
written or systemd is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from supervisor.core.paths import SERVICE_STORE
from supervisor.core.service_files import CONFIG

TOOLS: Final = (
    ("systemd-sysusers", "corral.conf"),
    ("systemd-tmpfiles", "--create", "corral.conf"),
    ("systemctl", "daemon-reload"),
)
"""What makes the written files count, in this order."""


class Action(StrEnum):
    """What becomes of a file."""

    WRITE = "write"
    REPLACE = "replace"
    UNCHANGED = "unchanged"
    KEEP = "keep"
    """It is the operator's."""


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file."""

    path: str
    action: Action
    text: str

    @property
    def is_written(self) -> bool:
        """Whether the disk changes."""
        return self.action in (Action.WRITE, Action.REPLACE)


def plan_files(
    wanted: Mapping[str, str], config_text: str, found: Mapping[str, str | None]
) -> tuple[PlannedFile, ...]:
    """Return what becomes of each file, the configuration last; `found` has the texts on disk.

    The configuration is the operator's from the moment it exists. Drop-ins are never named here.
    """
    files = [PlannedFile(path, _action(text, found[path]), text) for path, text in wanted.items()]
    there = found[CONFIG]
    config = (
        PlannedFile(CONFIG, Action.WRITE, config_text)
        if there is None
        else PlannedFile(CONFIG, Action.KEEP, there)
    )
    return (*files, config)


def _action(wanted: str, found: str | None) -> Action:
    if found is None:
        return Action.WRITE
    return Action.UNCHANGED if found == wanted else Action.REPLACE


def notes(*, ollama_runs: bool, reads_service_store: bool) -> tuple[str, ...]:
    """Return what the operator must know before he starts it."""
    told = []
    if ollama_runs:
        told.append(
            "ollama.service is active: it listens on port 11434 and takes memory of the GPUs that Corral"
            " counts on. Stop it for good first: systemctl disable --now ollama (its models stay)"
        )
    if reads_service_store:
        told.append(
            f"models of the Ollama service are served from {SERVICE_STORE}; for `corral pull` its group must"
            f" be allowed to write there: chmod -R g+rwX {SERVICE_STORE}"
        )
    return tuple(told)


NEXT: Final = (
    f"look at {CONFIG}; corral check {CONFIG} shows what it means",
    "systemctl enable --now corral",
    "systemctl status corral; journalctl -u corral -f",
)
"""What is left to the operator."""
