"""What the supervisor must know of an engine to run it. Pure: an engine describes, the host acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from supervisor.core.spec import WorkerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process to start. Pinning (CUDA_VISIBLE_DEVICES, cores) is added by the host for every engine."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Engine variables; the host merges them over its own environment and under the user's `env`."""


class Engine(Protocol):
    """One kind of worker process that speaks the Ollama API on a loopback port."""

    name: str
    ready_path: str
    """A GET there answers 200 as soon as the worker can take requests."""

    def missing(self) -> str | None:
        """Return what this machine lacks to run the engine, with the remedy, or None."""

    def launch(self, spec: WorkerSpec, *, port: int) -> Launch:
        """Return the process that serves `spec` on 127.0.0.1:`port`.

        A worker never unloads on its own (keep_alive is the gateway's to decide), so it is started
        with keep-alive for ever.
        """
