"""How the processes of this boot are started: specifications become jobs for the runtime.

Decides nothing: what a worker is started with is its engine's and `core/pinning.py`'s to say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from supervisor.child import Attempt, Job
from supervisor.core.backoff import RestartPolicy
from supervisor.core.pinning import worker_environment
from supervisor.core.spec import WorkerSpec
from supervisor.core.worker import Timings
from supervisor.engines.engine import Engine, Launch
from supervisor.host.logs import log_worker_line
from supervisor.host.probe import Loopback, Probe, free_port
from supervisor.host.process import Order

_NO_PORT = 0
"""For comparing what processes are started with."""


@dataclass(slots=True, kw_only=True)
class WorkerJobs:
    """Makes the jobs of workers."""

    engines: Mapping[str, Engine]
    boot_id: str
    policy: RestartPolicy
    timings: Timings
    on_line: Callable[[str, str], None] = log_worker_line
    """Gets each line that a worker writes, after the worker's name."""
    _ports: dict[str, int] = field(default_factory=dict)
    """Of every worker that was ever started: none is given to another."""

    def job(self, spec: WorkerSpec) -> Job:
        """Return the job of a worker; every incarnation gets a port of its own."""

        def attempt() -> Attempt:
            port = self._ports[spec.name] = free_port(self._ports.values())
            launch, env = self._launch(spec, port)
            order = Order(
                name=spec.name,
                argv=launch.argv,
                env=env,
                cores=spec.cpu_cores,
                on_line=partial(self.on_line, spec.name),
            )
            return Attempt(order, Probe(Loopback(port), self.engines[spec.engine].ready_path))

        return Job(name=spec.name, attempt=attempt, policy=self.policy, timings=self.timings)

    def process_of(self, spec: WorkerSpec) -> object:
        """Return what a worker's process is started with, but for its port: equal means the same process."""
        launch, env = self._launch(spec, _NO_PORT)
        return spec.engine, launch.argv, env, spec.cpu_cores

    def drain_for(self, seconds: float) -> None:
        """Let the workers of later jobs drain for so long."""
        self.timings = replace(self.timings, drain_timeout_s=seconds)

    def _launch(self, spec: WorkerSpec, port: int) -> tuple[Launch, dict[str, str]]:
        launch = self.engines[spec.engine].launch(spec, port=port)
        return launch, worker_environment(spec, launch.env, os.environ, boot_id=self.boot_id)
