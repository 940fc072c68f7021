"""In which parts a blob is fetched, and how far each has come: what makes a pull resumable. Pure.

A blob that is not whole yet is one file: room for all its bytes and behind them a journal, which holds the
size of a part and, of each part, how many bytes are there. One file, because two can disagree. The journal
is written after the bytes that it counts; whatever a crash leaves, the digest has the last word.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_PARTS: Final = 16
_SMALLEST_PART_BYTES: Final = 100 * 10**6
_LARGEST_PART_BYTES: Final = 10**9
_MAGIC: Final = b"corral part 1\n\0\0"
_HEAD: Final = struct.Struct("<16sQQ")
_COUNT: Final = struct.Struct("<Q")


@dataclass(slots=True)
class Part:
    """A run of bytes of a blob that one connection fetches."""

    number: int
    start: int
    end: int
    """The byte after its last."""
    done: int = 0
    """How many of its bytes are there, from its start."""

    @property
    def at(self) -> int:
        """The next byte to ask for."""
        return self.start + self.done

    @property
    def missing(self) -> int:
        """How many bytes are still to come."""
        return self.end - self.at


@dataclass(slots=True)
class Plan:
    """All parts of one blob."""

    size_bytes: int
    part_bytes: int
    parts: list[Part]

    @property
    def done(self) -> int:
        """Bytes that are there."""
        return sum(part.done for part in self.parts)

    @property
    def file_bytes(self) -> int:
        """Size of the file while the blob is not whole."""
        return self.size_bytes + _HEAD.size + len(self.parts) * _COUNT.size

    def journal(self) -> bytes:
        """Return what is written behind the bytes."""
        head = _HEAD.pack(_MAGIC, self.size_bytes, self.part_bytes)
        return head + b"".join(_COUNT.pack(part.done) for part in self.parts)

    def entry(self, part: Part) -> tuple[int, bytes]:
        """Return where in the file a part's count stands, and the count."""
        return self.size_bytes + _HEAD.size + part.number * _COUNT.size, _COUNT.pack(part.done)


def part_size(size_bytes: int) -> int:
    """Return how large the parts of a blob are: as Ollama cuts them."""
    return min(max(size_bytes // _PARTS, _SMALLEST_PART_BYTES), _LARGEST_PART_BYTES)


def new_plan(size_bytes: int, part_bytes: int) -> Plan:
    """Return the plan of a blob of which nothing is there."""
    return Plan(size_bytes, part_bytes, list(_cut(size_bytes, part_bytes)))


def resumed_plan(size_bytes: int, tail: bytes) -> Plan | None:
    """Return the plan that a journal tells, or None when it is none of a blob of this size.

    Args:
        size_bytes: Of the blob, as its manifest says.
        tail: What stands in the file behind the blob's bytes.
    """
    if len(tail) < _HEAD.size:
        return None
    magic, size, part_bytes = _HEAD.unpack_from(tail)
    if (magic, size) != (_MAGIC, size_bytes) or part_bytes < 1:
        return None
    plan = new_plan(size_bytes, part_bytes) if size_bytes // part_bytes < len(tail) else None
    if plan is None or len(tail) != plan.file_bytes - size_bytes:
        return None
    for part in plan.parts:
        (part.done,) = _COUNT.unpack_from(tail, _HEAD.size + part.number * _COUNT.size)
    return plan if all(part.missing >= 0 for part in plan.parts) else None


def _cut(size_bytes: int, part_bytes: int) -> Iterator[Part]:
    for number, start in enumerate(range(0, size_bytes, part_bytes)):
        yield Part(number, start, min(start + part_bytes, size_bytes))
