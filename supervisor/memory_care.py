"""Where news of workers' ends and of their logs meet the runtime: memory, lost GPUs, stuck loads.

Decides nothing: `core/memory_kills.py` says what an end costs, `engines/symptoms.py` what a line means and
`core/stuck_loads.py` how many of them mean more. The kernel's count is read when something died, and at no
other time.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field
from typing import Final

import structlog

from supervisor.contract.fleet import DeviceKind, WorkerStatus
from supervisor.core.fleet import Note, given_bytes
from supervisor.core.memory_kills import MemoryKills
from supervisor.core.stuck_loads import StuckLoads
from supervisor.engines.symptoms import Symptom, symptom_of
from supervisor.host.kernel_kills import KernelKills
from supervisor.host.logs import log_worker_line
from supervisor.runtime import Runtime

RAN_OUT: Final = "the kernel killed it because memory ran out"

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class MemoryCare:
    """Lives on the event loop."""

    runtime: Runtime
    kernel: KernelKills = field(default_factory=KernelKills)
    _kills: dict[str, MemoryKills] = field(default_factory=dict)
    """By worker."""
    _stuck: dict[str, StuckLoads] = field(default_factory=dict)
    """By worker."""
    _timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)

    def cause_of_death(self, name: str, code: int) -> str:
        """Return what is known of the end of a process that nobody here ended."""
        if code != -signal.SIGKILL or not self.kernel.have_grown():
            return ""
        self._killed(name)
        return RAN_OUT

    def hear(self, name: str, line: str) -> None:
        """Log a line of a worker's, and look whether it says more than it seems."""
        log_worker_line(name, line)
        symptom = symptom_of(line)
        if symptom is Symptom.NO_GPU and (status := self._status(name)) is not None and not _on_cpu(status):
            self.runtime.condemn(name, f"{symptom}: see what `nvidia-smi` or `rocm-smi` says")
        elif symptom is Symptom.RUNNER_DIED and self.kernel.have_grown():
            self._killed(name)
        elif symptom is not None and self._is_stuck(name, symptom):
            died = "a load is stuck: it waits for a process that died while it started"
            _log.error(died, worker=name)
            self.runtime.note(name, "loads", Note(stuck_loads=self._stuck[name].count))

    def close(self) -> None:
        """Forget."""
        for timer in self._timers.values():
            timer.cancel()

    def _is_stuck(self, name: str, symptom: Symptom) -> bool:
        stuck = self._stuck.setdefault(name, StuckLoads())
        match symptom:
            case Symptom.RUNNER_STARTS:
                stuck.starts()
            case Symptom.RUNNER_ANSWERS:
                stuck.answers()
            case Symptom.RUNNER_EXITED:
                return stuck.exited()
            case Symptom.DEAD_RUNNER_ASKED:
                return stuck.heard(asyncio.get_running_loop().time())
            case _:
                pass
        return False

    def _killed(self, name: str) -> None:
        status = self._status(name)
        if status is None:
            _log.error("the kernel killed a process because memory ran out", process=name)
            return
        kills = self._kills.setdefault(name, MemoryKills(_on_cpu(status)))
        kills.killed(asyncio.get_running_loop().time())
        self._tell(name)
        if (status := self._status(name)) is not None:
            withheld = status.withheld_bytes
            _log.error("memory ran out", worker=name, reason=status.condition, withheld_bytes=withheld)

    def _tell(self, name: str) -> None:
        """Note what is remembered now, and again when a part of it is forgotten."""
        status, loop = self._status(name), asyncio.get_running_loop()
        if status is None:
            return
        self.runtime.note(name, "memory", self._kills[name].note(given_bytes(status), loop.time()))
        if name in self._timers:
            self._timers.pop(name).cancel()
        deadline = self._kills[name].next_deadline()
        if deadline is not None:
            self._timers[name] = loop.call_at(deadline, self._tell, name)

    def _status(self, name: str) -> WorkerStatus | None:
        return next((status for status in self.runtime.fleet.workers if status.worker == name), None)


def _on_cpu(status: WorkerStatus) -> bool:
    return all(device.kind is DeviceKind.CPU for device in status.devices)
