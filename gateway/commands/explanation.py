"""The document of one request (`gateway/decisions/memory.py`) in words, for a person at a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import Any, Final

from supervisor.contract.table import table

WIDTH: Final = 100
_MOST_NAME: Final = 40

_TURNS: Final = {
    "alone": "nobody else waited for the model",
    "savable": "of those who waited it was next among the ones that could still begin in time",
    "fifo": "it had waited longest, and now and then that decides",
    "patience": "it had waited longer than scheduling.patience, which goes before all else",
    "returned": "it came back after a failed attempt, which goes first",
}
_CAUSES: Final = {
    "first": "no worker held the model",
    "further": "the workers that held it were too busy, so one more worker was to hold it",
    "kept": "the configuration wants it kept loaded",
}
_REJECTIONS: Final = {
    "unknown_model": "no worker serves the model",
    "queue_full": "the queue was full",
    "deadline": "it waited as long as gateway.request_timeout allows",
    "load_failed": "the model could not be loaded",
    "no_memory": "the model is too large for every worker",
    "barred": "no worker that has the model can serve the request",
}

_Row = dict[str, Any]
_Cells = tuple[str, ...]

_REPLICA_HEAD: Final[_Cells] = (
    "  WORKER",
    "BUSY",
    "BEFORE IT",
    "ITS PROMPT",
    "CROWDING",
    "ITS ANSWER",
    "TOTAL",
    "",
)
_LOAD_HEAD: Final[_Cells] = (
    "  WORKER",
    "LOAD",
    "DRAIN",
    "EVICTION",
    "CROWDING",
    "SLOWER",
    "TOTAL",
    "WOULD UNLOAD",
)


def explanation(document: _Row) -> Iterator[str]:
    """Yield the lines."""
    yield from _head(document)
    attempts = [one for one in document["attempts"] if document["state"] == "ended" or "worker" in one]
    for number, attempt in enumerate(attempts, start=1):
        yield ""
        yield from _attempt(attempt, f"Attempt {number}: " if len(attempts) > 1 else "")
    if document["state"] == "waiting":
        yield ""
        yield from _under_way(document)


def _head(document: _Row) -> Iterator[str]:
    arrived = document.get("arrived")
    came = f"came {arrived[:23].replace('T', ' ')} UTC" if arrived else "came at an unknown time"
    tenant = f" for {document['tenant']}" if document.get("tenant") else ""
    model = _short(document.get("model") or "no model")
    route = document.get("route") or "no route"
    yield from _filled(f"Request {document['id']}: {model}, {route}{tenant}, {came}")
    yield from _filled(_ending(document))


def _ending(document: _Row) -> str:
    total = _seconds(document.get("total_s"))
    if document["state"] != "ended":
        return f"It has {'waited' if document['state'] == 'waiting' else 'been under way'} for {total}."
    if "rejected" in document:
        why = _REJECTIONS.get(document["rejected"], document["rejected"])
        return f"Refused with {document.get('status')} after {total}: {why}. {document.get('error', '')}"
    facts = [
        f"status {document['status']}" if document.get("status") is not None else "",
        _tokens(document),
        f"first byte after {_seconds(document['first_byte_s'])}" if document.get("first_byte_s") else "",
        f"{total} in all",
    ]
    error = f". {document['error']}" if document.get("error") else ""
    return f"{str(document.get('outcome') or 'ended').capitalize()}: {', '.join(filter(None, facts))}{error}"


def _tokens(document: _Row) -> str:
    """Return what was counted; of a prompt that nobody read there is only a guess."""
    read, written = document.get("prompt_tokens"), document.get("tokens")
    if written is None:
        return ""
    return f"{written} tokens out" if read is None else f"{read} tokens in and {written} out"


# Attempts ---------------------------------------------------------------------


def _attempt(attempt: _Row, label: str) -> Iterator[str]:
    waited = _seconds(attempt.get("waited_s"))
    if "worker" not in attempt:
        yield f"{label}No slot."
        return
    turn = _TURNS.get(attempt.get("turn", ""), "")
    yield from _filled(f"{label}To {attempt['worker']} after a wait of {waited}; its turn: {turn}.")
    if attempt.get("load") is not None:
        yield from _load(attempt)
    if attempt.get("held_s"):
        yield from _filled(_held(attempt), "  ")
    yield from _replicas(attempt)
    if attempt.get("error"):
        yield from _filled(f"It failed there: {attempt['error']}", "  ")


def _held(attempt: _Row) -> str:
    return (
        f"{_seconds(attempt['held_s'])} of it beside a free slot, held back for a fuller batch: another "
        "model computed there and had requests waiting (`scheduling.batch_hold`)."
    )


def _replicas(attempt: _Row) -> Iterator[str]:
    servers = attempt.get("servers") or 0
    many = f"; {servers} workers may serve the model" if servers > 1 else ""
    yield f"  Seconds until its answer would be complete, where a slot was free{many}:"
    rows = [_replica_row(option, _mark(at)) for at, option in enumerate(attempt["options"])]
    yield from _indented(table([_REPLICA_HEAD, *rows]))


def _replica_row(option: _Row, mark: str) -> _Cells:
    seconds = (
        option["backlog_s"],
        option["prompt_s"],
        option["crowding_s"],
        option["answer_s"],
        option["total_s"],
    )
    cached = "knows the conversation" if option.get("cached") else ""
    return (mark + option["worker"], f"{option['busy']} of {option['slots']}", *map(_number, seconds), cached)


def _mark(at: int) -> str:
    """Return what stands before the first, which was chosen."""
    return "  " if at else "> "


# Loads ------------------------------------------------------------------------


def _load(attempt: _Row) -> Iterator[str]:
    load = attempt["load"]
    if "options" not in load:
        yield "  It waited until the model was loaded there; the log has no line about that load."
        return
    offset = attempt.get("load_after_s", 0.0)
    when = f"{_seconds(abs(offset))} {'after' if offset >= 0 else 'before'} it came"
    text = f"It waited until the model was loaded there (load {load['load']}, decided {when})."
    yield from _filled(text, "  ")
    yield from _load_facts(load)


def _load_facts(load: _Row) -> Iterator[str]:
    yield from _filled(
        f"Why: {_CAUSES.get(load.get('cause', ''), load.get('cause'))}; {_waiters(load)}.", "  "
    )
    yield from _filled(f"{_room(load)} {_load_end(load)}", "  ")
    yield "  Seconds that the load would cost, by worker:"
    rows = [_load_row(option, _mark(at)) for at, option in enumerate(load["options"])]
    yield from _indented(table([_LOAD_HEAD, *rows]))


def _waiters(load: _Row) -> str:
    queued = load["queued"]
    if not queued:
        return "nobody waited"
    who = "1 request waited" if queued == 1 else f"{queued} requests waited, the oldest"
    expected = load.get("expected_wait_s")
    without = "for ever" if expected is None else f"about {_seconds(expected)}"
    counted = f", counted as {load['need']:.1f}" if abs(load["need"] - queued) > 0.05 else ""  # noqa: PLR2004
    return f"{who} for {_seconds(load['waited_s'])}{counted}; without a load they would have waited {without}"


def _room(load: _Row) -> str:
    gone = load.get("unloaded")
    if not gone:
        return "There was room."
    return f"Unloaded to make room: {', '.join(map(_short, gone))} (after {_seconds(load.get('room_s'))})."


def _load_end(load: _Row) -> str:
    if load.get("error"):
        return f"The load failed: {load['error']}"
    took = load.get("seconds")
    return "The load is under way." if took is None else f"The load took {_seconds(took)}."


def _load_row(option: _Row, mark: str) -> _Cells:
    seconds = (
        option["load_s"],
        option["drain_s"],
        option["eviction_s"],
        option["crowding_s"],
        option["slower_s"],
    )
    total, victims = option["total_s"], ", ".join(option["victims"]) or "nothing"
    return (mark + option["worker"], *map(_number, (*seconds, total)), victims)


def _under_way(document: _Row) -> Iterator[str]:
    loads = document.get("loads_under_way") or []
    yield from _place(document.get("place"))
    if not loads:
        yield f"No load of {_short(document['model'])} is under way: it waits for a slot to become free."
    for load in loads:
        yield f"{_short(load['model'])} is being loaded on {load['worker']} (load {load['load']})."
        yield from _load_facts(load)


def _place(place: _Row | None) -> Iterator[str]:
    """Return where it stands in line; an older gateway does not tell."""
    if place is None:
        return
    starts = place["starts_in_s"]
    when = "nobody can say when it starts" if starts is None else f"it may start in {_seconds(starts)}"
    yield f"It is number {place['position']} of {place['queued']} in line; {when}."


# Pieces -----------------------------------------------------------------------


def _seconds(value: float | None) -> str:
    return "an unknown time" if value is None else f"{value:.2f} s"


def _number(value: float) -> str:
    return f"{value:.2f}"


def _short(name: str) -> str:
    return _cut(name, _MOST_NAME)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _filled(text: str, indent: str = "") -> list[str]:
    return wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (_cut(f"  {line}", WIDTH) for line in lines)
