"""Whether a GPU is fit to compute on: what was read of it over time in, a verdict out.

A lost card condemns its workers until it has answered twice in a row. A fault that spoils answers or
contexts (an Xid of the table, uncorrected memory errors that grow) restarts them, and the third within an
hour gives the card a rest. Throttling, rows that wait for a remap and other Xids are only told. Memory that
other programs hold is theirs until two readings in a row say less, so that no plan is made on a flicker.

Must not know how a GPU is read, nor what becomes of a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from supervisor.core.memory import gib, gpu_pool


class Standing(StrEnum):
    """What follows for the workers on a GPU."""

    WELL = "well"
    TOLD = "told"
    """Something is said of it and nothing done."""
    RESTART = "restart"
    """End them and start them again, once."""
    QUARANTINE = "quarantine"
    """End them; they rest as long as this is the verdict."""


XIDS: Final[Mapping[int, tuple[Standing, str]]] = {
    48: (Standing.RESTART, "a memory error that cannot be corrected"),
    62: (Standing.QUARANTINE, "its microcontroller halted: reset it (nvidia-smi --gpu-reset), or reboot"),
    63: (Standing.RESTART, "a memory row was retired; the spare takes its place with the next reset"),
    64: (Standing.QUARANTINE, "a memory row could not be retired: have the card replaced"),
    74: (Standing.RESTART, "an NVLink error"),
    79: (Standing.QUARANTINE, "it has fallen off the bus: reboot, and look at power and seating"),
    94: (Standing.RESTART, "a memory error that stayed within one program"),
    95: (
        Standing.QUARANTINE,
        "a memory error that no program is safe from: reset it (nvidia-smi --gpu-reset)",
    ),
    119: (Standing.QUARANTINE, "its system processor does not answer: reset it (nvidia-smi --gpu-reset)"),
    120: (Standing.QUARANTINE, "its system processor failed: reset it (nvidia-smi --gpu-reset)"),
}
"""NVIDIA's Xid errors after which nothing that computes on the card may go on, and what helps. Source: "Xid
Errors" in NVIDIA's GPU deployment documentation. All others are a program's own faults, or harmless."""

NOTICED_BYTES: Final = 256 * 2**20
"""What other programs take below this is a desktop's, and the reserve's matter."""
SMALL_BYTES: Final = 128 * 2**20
"""A change that is not worth a word."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A program on the GPU that is not ours."""

    pid: int
    name: str
    used_bytes: int
    """0 where the driver does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One GPU, or MIG instance, at one moment."""

    lost: str = ""
    """Why it cannot be used, when the driver says that it is lost, gone, or to be reset."""
    unreadable: str = ""
    """Why it could not be read this once, whatever that means."""
    total_bytes: int = 0
    foreign: tuple[Foreign, ...] = ()
    uncorrected: int | None = None
    """Memory errors that could not be corrected, since the driver was loaded; None without ECC."""
    remap_pending: bool = False
    remap_failed: bool = False
    throttled: str = ""
    """Why it runs slower than it could, for a bad reason: heat, or power that is cut."""
    xids: tuple[int, ...] = ()
    """Those that came since the reading before."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a GPU's readings come to."""

    standing: Standing
    reason: str = ""
    """With the GPU's label and what helps; of everything that is told."""
    total_bytes: int = 0
    foreign_bytes: int = 0
    """What other programs take of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """How much is borne; times in seconds."""

    good_readings: int = 2
    """In a row, before a card that was lost is trusted again and memory counts as given back."""
    bad_readings: int = 3
    """In a row that fail for whatever reason, before the card counts as lost."""
    restarts: int = 2
    """So many restarts within the window; one more fault is a quarantine."""
    window_s: float = 3600.0
    rest_s: float = 600.0
    """How long a card rests for which only a reset helps, before its workers are tried again."""
    same_fault_s: float = 10.0
    """Counters and events tell of one fault in several ways within this time."""
    told_s: float = 600.0
    """How long a harmless event stays in what is told."""


@dataclass(slots=True)
class GpuHealth:
    """One GPU through time. Its only writer is `read`."""

    label: str
    """For people: `GPU 0 NVIDIA L4`."""
    policy: HealthPolicy = field(default_factory=HealthPolicy)
    _seen: bool = False
    _lost: str = ""
    _good: int = 0
    _bad: int = 0
    _uncorrected: int | None = None
    _faults: list[float] = field(default_factory=list)
    _rest: tuple[float, str] = (float("-inf"), "")
    """Until when it rests, and why."""
    _told: dict[int, float] = field(default_factory=dict)
    """Harmless Xids, and until when they are told."""
    _throttled: str = ""
    _otherwise: int = 0
    """Readings in a row that say otherwise than `_throttled`."""
    _foreign: tuple[Foreign, ...] = ()
    _less: int = 0
    """Readings in a row that showed less foreign memory."""
    _total_bytes: int = 0

    def read(self, reading: Reading, now: float) -> Verdict:
        """Take the next reading in and return what it comes to."""
        self._follow(reading)
        fault = self._fault(reading, now)
        if self._lost:
            return self._verdict(Standing.QUARANTINE, f"{self.label} is lost ({self._lost}): {_LOST_HELP}")
        if now < self._rest[0]:
            return self._verdict(Standing.QUARANTINE, f"{self.label}: {self._rest[1]}")
        if fault:
            return self._verdict(Standing.RESTART, f"{self.label}: {fault}")
        told = "; ".join(f"{self.label}: {text}" for text in self._remarks(reading, now))
        return self._verdict(Standing.TOLD if told else Standing.WELL, told)

    # Whether it is there ------------------------------------------------------------

    def _follow(self, reading: Reading) -> None:
        wrong = reading.lost or reading.unreadable
        self._good, self._bad = (0, self._bad + 1) if wrong else (self._good + 1, 0)
        if reading.lost or self._bad >= self.policy.bad_readings:
            self._lost = wrong if self._seen or reading.lost else ""
        elif self._good >= self.policy.good_readings:
            self._lost = ""
        if not wrong:
            self._seen = True
            self._total_bytes = reading.total_bytes or self._total_bytes
            self._follow_throttling(reading.throttled)
            self._follow_memory(reading.foreign)

    def _follow_throttling(self, why: str) -> None:
        self._otherwise = self._otherwise + 1 if bool(why) != bool(self._throttled) else 0
        if self._otherwise >= self.policy.good_readings:
            self._throttled, self._otherwise = why, 0

    def _follow_memory(self, foreign: tuple[Foreign, ...]) -> None:
        """Believe more at once, less only when it lasts; small changes of the same programs say nothing."""
        more = _used(foreign) - _used(self._foreign)
        same = {process.pid for process in foreign} == {process.pid for process in self._foreign}
        if same and abs(more) < SMALL_BYTES:
            self._less = 0
            return
        self._less = self._less + 1 if more < 0 else 0
        if self._less == 0 or self._less >= self.policy.good_readings:
            self._foreign, self._less = foreign, 0

    # What went wrong ----------------------------------------------------------------

    def _fault(self, reading: Reading, now: float) -> str:
        """Return what makes a restart necessary now, if anything; note what makes a rest necessary."""
        grave = [xid for xid in reading.xids if _standing(xid) is Standing.QUARANTINE]
        if grave:
            self._rest = (now + self.policy.rest_s, _xid_text(grave[0]))
        causes = [_xid_text(xid) for xid in reading.xids if _standing(xid) is Standing.RESTART]
        causes += self._memory_errors(reading.uncorrected)
        self._told |= {
            xid: now + self.policy.told_s for xid in reading.xids if _standing(xid) is Standing.TOLD
        }
        if not causes or (self._faults and now - self._faults[-1] < self.policy.same_fault_s):
            return ""
        self._faults = [*(at for at in self._faults if now - at < self.policy.window_s), now]
        if len(self._faults) > self.policy.restarts:
            count = f"fault {len(self._faults)} within {self.policy.window_s / 60:.0f} minutes"
            self._rest = (now + self.policy.rest_s, f"{causes[0]} ({count})")
        return causes[0]

    def _memory_errors(self, uncorrected: int | None) -> list[str]:
        before, self._uncorrected = self._uncorrected, uncorrected
        if before is None or uncorrected is None or uncorrected <= before:
            return []
        more = uncorrected - before
        return [f"{more} more memory {'error' if more == 1 else 'errors'} that could not be corrected"]

    # What is only told --------------------------------------------------------------

    def _remarks(self, reading: Reading, now: float) -> list[str]:
        self._told = {xid: until for xid, until in self._told.items() if now < until}
        remarks = [f"Xid {xid} (see `dmesg | grep -i xid`)" for xid in sorted(self._told)]
        if reading.unreadable:
            remarks.append(f"cannot be read ({reading.unreadable})")
        if reading.remap_failed:
            remarks.append("a memory row could not be replaced: have the card replaced")
        elif reading.remap_pending:
            remarks.append("a memory row waits for its replacement: reset the card when it suits")
        if self._throttled:
            remarks.append(f"runs slower than it could: {self._throttled}")
        return [*remarks, *map(_foreign_text, self._noticed())]

    def _noticed(self) -> tuple[Foreign, ...]:
        return self._foreign if _used(self._foreign) >= NOTICED_BYTES else ()

    def _verdict(self, standing: Standing, reason: str) -> Verdict:
        return Verdict(standing, reason, self._total_bytes, _used(self._noticed()))


_LOST_HELP: Final = "`dmesg | grep -i xid` tells why, and a reset or a reboot brings it back"


def _standing(xid: int) -> Standing:
    return XIDS[xid][0] if xid in XIDS else Standing.TOLD


def _xid_text(xid: int) -> str:
    return f"Xid {xid}, {XIDS[xid][1]}"


def _used(foreign: tuple[Foreign, ...]) -> int:
    return sum(process.used_bytes for process in foreign)


def _foreign_text(process: Foreign) -> str:
    return f"{process.name or 'a program'} (pid {process.pid}) holds {gib(process.used_bytes)} of its memory"


# From GPUs to workers -------------------------------------------------------------------

_SEVERITY: Final = tuple(Standing)


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker and what it was given of its GPUs together."""

    worker: str
    gpus: tuple[str, ...]
    """Their UUIDs."""
    given_bytes: int


@dataclass(frozen=True, slots=True)
class Advice:
    """What is to be done with a worker, and told of it."""

    worker: str
    standing: Standing
    reason: str
    withheld_bytes: int
    """Memory that its models cannot have, because other programs hold it."""


def advise(claims: tuple[Claim, ...], verdicts: Mapping[str, Verdict]) -> list[Advice]:
    """Return what follows for each worker on GPUs of which there is a verdict, by their UUIDs."""
    shares = {(claim.worker, gpu): size for claim in claims for gpu, size in _shares(claim, verdicts).items()}
    given = {gpu: sum(size for (_, at), size in shares.items() if at == gpu) for gpu in verdicts}
    advice: list[Advice] = []
    for claim in claims:
        own = {gpu: verdicts[gpu] for gpu in claim.gpus if gpu in verdicts}
        if own:
            worst = max((verdict.standing for verdict in own.values()), key=_SEVERITY.index)
            reasons = [v.reason for v in own.values() if v.reason and _weighs(v.standing, worst)]
            missing = sum(
                _withheld(shares[claim.worker, gpu], given[gpu], verdict) for gpu, verdict in own.items()
            )
            advice.append(Advice(claim.worker, worst, "; ".join(reasons), missing))
    return advice


def _weighs(standing: Standing, worst: Standing) -> bool:
    """A reason for a restart or a quarantine stands alone: it is read where the worker's state is."""
    return standing is worst or worst is Standing.TOLD


def _shares(claim: Claim, verdicts: Mapping[str, Verdict]) -> dict[str, int]:
    """Return what the worker was given of each GPU, as placement splits a claim: by their sizes."""
    totals = {gpu: verdicts[gpu].total_bytes for gpu in claim.gpus if gpu in verdicts}
    whole = max(1, sum(totals.values()))
    return {gpu: claim.given_bytes * total // whole for gpu, total in totals.items()}


def _withheld(share_bytes: int, given_bytes: int, verdict: Verdict) -> int:
    """Return a worker's part of what the workers on a GPU lack: first goes what none of them was given."""
    if not verdict.foreign_bytes or not given_bytes:
        return 0
    spare = max(0, gpu_pool("", verdict.total_bytes).usable_bytes - given_bytes)
    lacking = max(0, verdict.foreign_bytes - spare)
    return min(share_bytes, lacking * share_bytes // given_bytes)
