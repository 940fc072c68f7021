"""Where what is read of GPUs meets the workers: each verdict is carried out on the workers it is about.

Decides nothing: `core/gpu_health.py` judges, the runtime ends and starts. Watches nothing while no worker
computes on a GPU. A driver that falls silent, or fails, is told once and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from supervisor.contract.fleet import DeviceKind, FleetSnapshot, WorkerStatus
from supervisor.core.fleet import Note, given_bytes
from supervisor.core.gpu_health import Advice, Claim, GpuHealth, Standing, advise
from supervisor.core.spec import WorkerSpec
from supervisor.host.gpu_watch import INTERVAL_S, GpuWatch, Report
from supervisor.host.keeper import is_marked
from supervisor.runtime import Runtime

SILENCE_S: Final = 30.0
"""A report that is so late is told: a call into the driver hangs."""

_LEVELS: Final = {Standing.RESTART: "error", Standing.QUARANTINE: "error", Standing.TOLD: "warning"}

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class GpuCare:
    """Lives on the event loop; all that it keeps follows from reports."""

    runtime: Runtime
    boot_id: str
    interval_s: float = INTERVAL_S
    silence_s: float = SILENCE_S
    _watch: GpuWatch | None = None
    _health: dict[str, GpuHealth] = field(default_factory=dict)
    """By UUID."""
    _last: dict[str, Advice] = field(default_factory=dict)
    """By worker."""
    _alarm: asyncio.TimerHandle | None = None
    _trouble: str = ""
    """Why nothing is known of the GPUs, as it was told."""

    def attend(self, specs: Iterable[WorkerSpec]) -> None:
        """Watch the GPUs of the workers there are now; to be called again when these change."""
        labels = _nvidia_gpus(specs)
        for uuid in self._health.keys() - labels.keys():
            del self._health[uuid]
        self._health |= {uuid: GpuHealth(label) for uuid, label in labels.items() if uuid not in self._health}
        if self._watch is not None:
            self._watch.uuids = tuple(labels)
        elif labels:
            ours = partial(_is_ours, self.boot_id)
            self._watch = GpuWatch(tuple(labels), ours, self.take, self.interval_s)
            self._watch.start()
            self._expect(self.interval_s)

    def close(self) -> None:
        """Stop watching."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self._watch is not None:
            self._watch.stop()

    def take(self, report: Report) -> None:
        """Carry out what follows from a report."""
        self._expect(report.next_in_s)
        self._tell_trouble(report.error)
        if report.error:
            return
        now = asyncio.get_running_loop().time()
        readings = {uuid: reading for uuid, reading in report.readings.items() if uuid in self._health}
        verdicts = {uuid: self._health[uuid].read(reading, now) for uuid, reading in readings.items()}
        for advice in advise(_claims(self.runtime.fleet), verdicts):
            self._follow(advice)

    def _follow(self, advice: Advice) -> None:
        """Do as advised. A quarantine is ordered as long as it lasts: an operator may have started it."""
        before = self._last.get(advice.worker)
        self._last[advice.worker] = advice
        if advice != before:
            _tell(advice, before)
        self.runtime.note(advice.worker, "gpus", Note(advice.reason, advice.withheld_bytes))
        if advice.standing is Standing.QUARANTINE:
            self.runtime.condemn(advice.worker, advice.reason, quarantine=True)
        elif before is not None and before.standing is Standing.QUARANTINE:
            self.runtime.pardon(advice.worker)
        if advice.standing is Standing.RESTART:
            self.runtime.condemn(advice.worker, advice.reason)

    # The driver itself --------------------------------------------------------------

    def _expect(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        loop = asyncio.get_running_loop()
        silent = f"a call into it has not returned for {self.silence_s:g} s"
        self._alarm = loop.call_later(seconds + self.silence_s, self._tell_trouble, silent)

    def _tell_trouble(self, trouble: str) -> None:
        if bool(trouble) == bool(self._trouble):
            return
        self._trouble = trouble
        if trouble:
            help_ = "see what `nvidia-smi` says"
            _log.error("the NVIDIA driver does not answer: GPUs are not watched", error=trouble, help=help_)
        else:
            _log.info("the NVIDIA driver answers again: GPUs are watched")


def _tell(advice: Advice, before: Advice | None) -> None:
    level = _LEVELS.get(advice.standing)
    withheld = {"withheld_bytes": advice.withheld_bytes} if advice.withheld_bytes else {}
    if level is not None:
        getattr(_log, level)("gpu trouble", worker=advice.worker, reason=advice.reason, **withheld)
    elif before is not None:
        _log.info("gpu is well again", worker=advice.worker, was=before.reason)


def _is_ours(boot_id: str, pid: int) -> bool:
    return is_marked(pid, boot_id)


def _nvidia_gpus(specs: Iterable[WorkerSpec]) -> dict[str, str]:
    """Return the labels of the GPUs that NVIDIA's driver knows, by UUID."""
    devices = (device for spec in specs if spec.gpu_vendor == "nvidia" for device in spec.devices)
    return {device.id: device.label for device in devices}


def _claims(fleet: FleetSnapshot) -> tuple[Claim, ...]:
    return tuple(_claim(status) for status in fleet.workers)


def _claim(status: WorkerStatus) -> Claim:
    gpus = tuple(device.id for device in status.devices if device.kind is DeviceKind.GPU)
    return Claim(status.worker, gpus, given_bytes(status))
