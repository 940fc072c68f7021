"""From what was seen to figures, and from figures to lines for people. Pure but for `corral explain`'s text.

The goal: nothing refused, nothing failed before its first byte that could have been served, no broken answer
that looks whole, and nothing left over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from scripts.figures.chaos.faults import Happened
from scripts.figures.chaos.plan import Kind
from scripts.figures.chaos.verdicts import MISSES, Circumstances, Seen, Verdict, verdict

_MOST_SHOWN: Final = 20
_MOST_CHARACTERS: Final = 300


def figures(
    seen: Sequence[Seen], happened: Sequence[Happened], known: Circumstances, explain: Callable[[str], str]
) -> dict[str, Any]:
    """Return all counts and each failure with its fault; `explain` tells what the log says of a request."""
    judged = [(one, verdict(one, known)) for one in seen]
    counts = Counter(came for _, came in judged)
    failures = [(one, came) for one, came in judged if came in MISSES]
    waits = sorted(one.first_at - one.started_at for one in seen if one.first_at is not None)
    return {
        "asked": len(seen),
        "by_client": dict(sorted(Counter(str(one.ask.client) for one in seen).items())),
        "verdicts": {str(came): counts[came] for came in Verdict},
        "first_byte_s": {"p50": _share(waits, 0.5), "p99": _share(waits, 0.99), "max": _share(waits, 1.0)},
        "faults": [_fault(one) for one in happened],
        "problems": [f"{_named(one)}: {one.problem}" for one in happened if one.problem],
        "failures": [
            _failure(one, came, happened, explain if number < _MOST_SHOWN else None)
            for number, (one, came) in enumerate(failures)
        ],
    }


def _share(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else 0.0


def _fault(one: Happened) -> dict[str, Any]:
    return {
        "kind": str(one.fault.kind),
        "worker": one.fault.worker,
        "at_request": one.fault.at,
        "lasted_s": round(one.ended_at - one.begun_at, 2),
        "all_ready_after_s": None if one.settled_s is None else round(one.settled_s, 2),
    }


def _failure(
    one: Seen, came: Verdict, happened: Sequence[Happened], explain: Callable[[str], str] | None
) -> dict[str, Any]:
    return {
        "id": one.ask.id,
        "verdict": str(came),
        "faults": active(one, happened),
        "client": str(one.ask.client),
        "route": str(one.ask.call),
        "model": one.ask.model,
        "streamed": one.ask.streamed,
        "fresh_connection": one.ask.fresh,
        "trouble": None if one.trouble is None else str(one.trouble),
        "status": one.status,
        "error": one.error[:_MOST_CHARACTERS],
        "words": f"{len(one.text.split())} of {one.ask.words}",
        "seconds": round(one.ended_at - one.started_at, 3),
        "log": "" if explain is None else explain(one.ask.id),
    }


def active(one: Seen, happened: Sequence[Happened]) -> list[str]:
    """Return the faults that a request met: the last before it, and all that began in its life."""
    before = [fault for fault in happened if fault.begun_at <= one.started_at][-1:]
    during = [fault for fault in happened if one.started_at < fault.begun_at <= one.ended_at]
    return [_named(fault) for fault in (*before, *during)]


def _named(one: Happened) -> str:
    return f"{one.fault.kind} {one.fault.worker}".strip()


def misses(found: dict[str, Any]) -> list[str]:
    """Return what the goal does not allow."""
    verdicts = found["verdicts"]
    counted = [f"{verdicts[name]} {name}" for name in map(str, MISSES) if verdicts[name]]
    return [*counted, *found["problems"], *found["left_over"]]


def in_words(found: dict[str, Any]) -> list[str]:
    """Return the table, and what was missed with all that is known of it."""
    rows = [_row(fault) for fault in found["faults"]]
    left_out = [f"  left out: {kind} ({why})" for kind, why in found["left_out"].items()]
    verdicts = found["verdicts"]
    counts = [f"{name:34}{verdicts[name]:8}{_goal(name)}" for name in verdicts]
    missed = misses(found)
    return [
        f"{found['asked']} requests in {found['took_s']:.0f} s, seed {found['seed']}, {found['engine']}: "
        + ", ".join(f"{count} by {name}" for name, count in found["by_client"].items()),
        "",
        f"{'fault':42}{'at request':>10}{'lasted':>9}{'all ready after':>17}",
        *rows,
        *left_out,
        "",
        *counts,
        f"{'lost slots and other remains':34}{len(found['left_over']):8}   (goal 0)",
        _first_byte(**found["first_byte_s"]),
        *_in_full(found["failures"]),
        "",
        *(["GOAL MISSED:", *(f"  {line}" for line in missed)] if missed else ["goal met"]),
    ]


def _first_byte(p50: float, p99: float, max: float) -> str:  # noqa: A002 -- as the figures call it
    return f"first byte: median {p50:g} s, 99 % within {p99:g} s, longest {max:g} s"


def _row(fault: dict[str, Any]) -> str:
    ready = fault["all_ready_after_s"]
    told = "not in time" if ready is None else f"{ready:.1f} s"
    name = f"{fault['kind']} {fault['worker']}"
    return f"{name:42}{fault['at_request']:>10}{fault['lasted_s']:>7.1f} s{told:>17}"


def _goal(name: str) -> str:
    return "   (goal 0)" if name in map(str, MISSES) else ""


def _in_full(failures: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for one in failures[:_MOST_SHOWN]:
        way = "fresh" if one["fresh_connection"] else "kept"
        how = "streamed" if one["streamed"] else "in one piece"
        lines += [
            "",
            f"{one['id']}: {one['verdict']} after {one['seconds']} s",
            f"  {one['client']} {one['route']} {one['model']}, {how}, {one['words']} words, {way} connection",
            f"  during: {'; '.join(one['faults']) or 'no fault'}",
            f"  {one['trouble']} {one['status'] or ''}: {one['error']}",
            *(f"  | {line}" for line in one["log"].splitlines()),
        ]
    if len(failures) > _MOST_SHOWN:
        lines.append(f"... and {len(failures) - _MOST_SHOWN} more; --json has all")
    return lines


def left_out_in_words(left_out: dict[Kind, str]) -> dict[str, str]:
    """Return the kinds by their names."""
    return {str(kind): why for kind, why in left_out.items()}
