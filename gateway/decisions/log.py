"""Explains a request from Corral's JSON log, when the gateway that handled it is gone or has forgotten it.

Joins the line `request` with the lines of the loads that it waited for. Numbers of loads begin anew with each
gateway, so the latest before the request's own line counts. Pure; lines of others are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from gateway.decisions.memory import Facts, choose, explained

_LOAD_ENDS: Final = ("loaded", "load refused", "load broke off")
_LOG_KEYS: Final = ("event", "level", "timestamp")
"""In every line."""


def explain_from_log(lines: Iterable[str], start: str) -> Facts:
    """Return the document of the latest request with this id, or whose id alone begins like this.

    Raises:
        UnknownRequestError: there is none, or several begin like this.
    """
    loads: dict[int, Facts] = {}
    found: dict[str, Facts] = {}
    for line in lines:
        entry = _entry(line)
        match entry.get("event"), entry.get("load"):
            case "load", int(number):
                loads[number] = {**_without_log_keys(entry), "worker": _worker(entry)}
            case str(event), int(number) if event in _LOAD_ENDS and number in loads:
                ended = {"seconds": entry.get("seconds"), "error": entry.get("error")}
                loads[number] = loads[number] | ended
            case "request", _ if _is_request(entry) and entry["id"].startswith(start):
                found[entry["id"]] = explained(_without_log_keys(entry), loads)
    return found[choose(start, found)]


def _entry(line: str) -> Facts:
    brace = line.find("{")  # a journal may have put a prefix before it
    if brace < 0:
        return {}
    try:
        entry = json.loads(line[brace:])
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _is_request(entry: Facts) -> bool:
    """Whether it may be a line of ours: other programs call lines of theirs `request`, too."""
    attempts = entry.get("attempts", [])
    return (
        isinstance(entry.get("id"), str)
        and isinstance(attempts, list)
        and all(isinstance(attempt, dict) and _has_rows(attempt) for attempt in attempts)
    )


def _has_rows(attempt: Facts) -> bool:
    options = attempt.get("options", [])
    return isinstance(options, list) and all(isinstance(row, list) for row in options)


def _without_log_keys(entry: Facts) -> Facts:
    return {key: value for key, value in entry.items() if key not in _LOG_KEYS}


def _worker(entry: Facts) -> str:
    """Return the name: lines of the scheduler tell the process, `gpu0#3`."""
    return str(entry.get("worker", "")).partition("#")[0]
