"""How the progress of one operation at several stores is told as that of one server.

Clients show a bar a digest: its total is what they were told first, so it is the size of one copy, and what
is completed is the mean over the stores. Both only ever grow, also when a worker died and another begins
again. A status is told when the last store has come to it. `success` is never passed on: whoever asked
waits until the change can be seen everywhere. With one store all other lines pass as they are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

SUCCESS: Final = "success"
FINAL_LINE: Final = b'{"status":"success"}\n'
_FAILED: Final = 500


@dataclass(frozen=True, slots=True)
class Failure:
    """Why it came to nothing at a store."""

    status: int
    """What Ollama answers if it was found out before anything was told."""
    text: str


class Told(NamedTuple):
    """A line of progress."""

    key: str
    """A later line of the same key makes this one worthless."""
    line: bytes


@dataclass(slots=True)
class _Bar:
    """A digest at all stores."""

    status: str
    total: int = 0
    at: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By store: completed, and of how much."""
    told: tuple[int, int] | None = None
    """Completed, and of how much."""


@dataclass(slots=True)
class Merge:
    """One operation at some stores."""

    stores: Sequence[str]
    """Their names, as people know them."""
    forgives: Collection[int] = ()
    """Statuses that are no failure as long as it succeeded elsewhere."""
    done: set[str] = field(default_factory=set)
    failures: dict[str, Failure] = field(default_factory=dict)
    _bars: dict[str, _Bar] = field(default_factory=dict)
    _reached: dict[str, set[str]] = field(default_factory=dict)
    """By status: the stores that have come to it."""
    _told: set[str] = field(default_factory=set)
    """Statuses."""

    def line(self, store: str, raw: bytes) -> list[Told]:
        """Take a line of a store's answer and return what to tell.

        A line with an error, or that is none of Ollama's, is the store's failure.
        """
        row = _row(raw)
        if row is None or "error" in row:
            text = str(row["error"]) if row is not None else f"unreadable progress: {_shown(raw)}"
            return self.failed(store, Failure(_FAILED, text))
        status, digest = str(row.get("status") or ""), row.get("digest")
        if isinstance(digest, str) and digest:
            return self._progress(store, digest, row, raw)
        if status == SUCCESS:
            return self.ended(store)
        if len(self.stores) == 1:
            return [Told(f"status {status}", raw)]
        self._reached.setdefault(status, set()).add(store)
        return self._news()

    def ended(self, store: str) -> list[Told]:
        """It is done there."""
        self.done.add(store)
        return self._news()

    def failed(self, store: str, failure: Failure) -> list[Told]:
        """It came to nothing there; the others go on."""
        self.failures[store] = failure
        return self._news()

    @property
    def completed(self) -> int:
        """Bytes at all stores, for whoever wants to know whether anything moves."""
        return sum(completed for bar in self._bars.values() for completed, _ in bar.at.values())

    def verdict(self) -> Failure | None:
        """Return why the whole came to nothing, once all stores ended; None is success."""
        lasting = {s: f for s, f in self.failures.items() if not (self.done and f.status in self.forgives)}
        if not lasting:
            return None
        first = next(iter(lasting.values()))
        if not self.done and all(failure == first for failure in lasting.values()):
            return first
        texts = "; ".join(f"{store}: {failure.text}" for store, failure in lasting.items())
        done = f" (done on {', '.join(s for s in self.stores if s in self.done)})" if self.done else ""
        return Failure(first.status, texts + done)

    def _progress(self, store: str, digest: str, row: dict[str, Any], raw: bytes) -> list[Told]:
        completed, total = _size(row.get("completed")), _size(row.get("total"))
        bar = self._bars.setdefault(digest, _Bar(str(row.get("status") or "")))
        before = bar.at.get(store, (0, 0))
        bar.at[store] = max(before[0], completed), max(before[1], total)
        bar.total = max(bar.total, total)
        bar.told = self._mean(bar)
        passes = len(self.stores) == 1 and (bar.told == (completed, total) or not total)
        return [Told(digest, raw if passes else _bar_line(digest, bar))]  # news or not: a sign of life

    def _mean(self, bar: _Bar) -> tuple[int, int]:
        counted = [store for store in self.stores if store not in self.failures] or list(self.stores)
        done = sum(self._share(bar, store) for store in counted) // len(counted)
        return max(done, bar.told[0] if bar.told else 0), bar.total

    def _share(self, bar: _Bar, store: str) -> int:
        """Return what the store has of one copy: one that is done has all, one that said nothing none."""
        if store in self.done:
            return bar.total
        completed, total = bar.at.get(store, (0, 0))
        return bar.total * min(completed, total) // total if total else 0

    def _news(self) -> list[Told]:
        """Return what follows from a store's having come further, or having ended."""
        return [*self._moved_bars(), *self._statuses()] if len(self.stores) > 1 else []

    def _moved_bars(self) -> Iterator[Told]:
        for digest, bar in self._bars.items():
            told = self._mean(bar)
            if told != bar.told:
                bar.told = told
                yield Told(digest, _bar_line(digest, bar))

    def _statuses(self) -> Iterator[Told]:
        ended = self.done | self.failures.keys()
        for status, reached in self._reached.items():
            if status not in self._told and reached | ended >= set(self.stores):
                self._told.add(status)
                yield Told(f"status {status}", status_line(status))


def status_line(status: str) -> bytes:
    """Return a line that says this."""
    return _line({"status": status})


def error_line(text: str) -> bytes:
    """Return the last line of what failed."""
    return _line({"error": text})


def _bar_line(digest: str, bar: _Bar) -> bytes:
    completed, total = bar.told or (0, 0)
    numbers = {"total": total, "completed": completed}
    return _line({"status": bar.status, "digest": digest, **{k: n for k, n in numbers.items() if n}})


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _row(raw: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(raw)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _size(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _shown(raw: bytes) -> str:
    return raw[:80].decode(errors="replace").strip()
