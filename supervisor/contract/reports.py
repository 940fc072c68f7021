"""What a gateway tells the supervisor, on the connection over which it reads fleet snapshots.

Decides the wire form (one JSON object a line) and nothing else. Must not know how either side comes to its
judgement, nor what becomes of a worker that is reported.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

LONGEST_REPORT_BYTES: Final = 2**20
"""A longer line is none of ours."""


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Process(_Line):
    """One life of a worker."""

    worker: str
    incarnation: int


class Known(_Line):
    """What this gateway knows now, whole: the newest of a connection replaces those before.

    Who tells it looks after the workers: the supervisor need not ask them whether they live.
    """

    report: Literal["known"] = "known"
    boot_id: str
    """Of the snapshot that it goes by."""
    generation: int
    """Of the same: what is said of a worker's state holds as of this one."""
    settings: int
    """Which accepted configuration it runs with, as the snapshots count them."""
    serving: tuple[Process, ...] = ()
    """Workers that it gives requests to."""
    idle: tuple[Process, ...] = ()
    """Draining workers on which no request of this gateway holds a slot, and none will any more."""


class Hung(_Line):
    """A worker's process that lives and is good for nothing: it is to be ended and replaced."""

    report: Literal["hung"] = "hung"
    worker: str
    incarnation: int
    """Which process: a successor is not to suffer for it."""
    why: str
    """For people."""
    what: str = "hangs"
    """For people too: in a word, what it does."""


Report = Known | Hung
_REPORT: Final[TypeAdapter[Report]] = TypeAdapter(Annotated[Report, Field(discriminator="report")])


class ReportError(ValueError):
    """A line that is no report of a kind this program knows."""


def encode_report(report: Report) -> bytes:
    r"""Return the report as one line of JSON that ends in ``\n``."""
    return report.model_dump_json().encode() + b"\n"


def decode_report(line: bytes) -> Report:
    """Return the report of one line.

    Raises:
        ReportError: it is none.
    """
    try:
        return _REPORT.validate_json(line)
    except ValidationError as error:
        raise ReportError(f"not a report: {error}") from error
