"""What must be as before when all clients have gone: slots, queue, engines, processes, descriptors, loads."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from scripts.figures.chaos.house import House
from scripts.figures.chaos.processes import (
    children_of,
    connected_to,
    connections_to,
    descriptors_of,
    kinds_of,
    mark_of,
    marked,
)
from scripts.figures.running import get_json

_WITHIN_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.3
_SPARE_DESCRIPTORS: Final = 8
"""What a replaced gateway may hold that the first did not."""
_COUNTED_ANEW: Final = "gateway serves"
_LINES_MISSING: Final = "log lines could not be written"
"""Ends of loads among them, perhaps."""
_LOAD_ENDS: Final = ("loaded", "load refused", "load broke off")


async def descriptors(house: House) -> dict[str, Counter[str]]:
    """Return what supervisor, gateway and keeper have open, but for pooled connections to workers."""
    pooled = [connected_to(urlsplit(row["base_url"]).port or 0) for row in (await house.fleet())["workers"]]
    found = {name: kinds_of(descriptors_of(pid)) for name, pid in house.running.processes().items()}
    for kinds in found.values():
        for kind in pooled:
            del kinds[kind]
    return found


async def left_over(house: House, before: dict[str, Counter[str]]) -> list[str]:
    """Return what is not as it should be, once that stays so."""
    until = time.monotonic() + _WITHIN_S
    while (found := await _look(house, before)) and time.monotonic() < until:  # noqa: ASYNC110 -- looks from outside
        await asyncio.sleep(_LOOK_EVERY_S)
    return found


async def _look(house: House, before: dict[str, Counter[str]]) -> list[str]:
    try:
        fleet = await house.fleet()
    except (aiohttp.ClientError, OSError) as error:
        return [f"the gateway does not tell: {error!r}"]
    found = [f"{row['waiting']} wait for {row['model']}" for row in fleet["queue"]]
    for worker in fleet["workers"]:
        found += _of_worker(worker)
        if worker["state"] == "ready":
            found += await asyncio.to_thread(_of_engine, house.engine, worker)
    found += _of_sockets(house)
    for name, kinds in (await descriptors(house)).items():
        if kinds.total() > before[name].total() + _SPARE_DESCRIPTORS:
            more = ", ".join(f"{count} {kind}" for kind, count in (kinds - before[name]).items())
            found.append(
                f"{name} has {kinds.total()} descriptors, {before[name].total()} before: {more} more"
            )
    return found


def _of_worker(worker: dict[str, Any]) -> list[str]:
    name = worker["worker"]
    found = [] if worker["state"] == "ready" else [f"{name} is {worker['state']}: {worker['reason']}"]
    for model in worker["resident"]:
        if model.get("busy"):
            found.append(f"{name}: {model['busy']} slots of {model['name']} are given out")
        if model["phase"] != "resident":
            found.append(f"{name}: {model['name']} is {model['phase']}")
    return found


def _of_engine(engine: str, worker: dict[str, Any]) -> list[str]:
    """Look at what the worker itself does and holds: runners are its only children."""
    name, found = worker["worker"], []
    if engine == "embedded":
        with suppress(OSError):
            slots = get_json(f"{worker['base_url']}/corral/slots")
            if slots["busy"] or slots["pending"]:
                found.append(f"{name} computes {slots['busy']} answers, {slots['pending']} wait in it")
    runners, resident = len(children_of(worker["pid"])), len(worker["resident"])
    if runners != resident:
        found.append(f"{name} has {runners} runners for {resident} models")
    family = {worker["pid"], *children_of(worker["pid"])}
    strays = [pid for pid, whose in marked(boot_of(worker)).items() if whose == name and pid not in family]
    return found + [f"{name}: process {pid} is no child of it" for pid in strays]


def boot_of(worker: dict[str, Any]) -> str:
    """Return the mark of the Corral that a worker belongs to."""
    return mark_of(worker["pid"]).partition("/")[0]


def _of_sockets(house: House) -> list[str]:
    states = connections_to(int(house.url.rpartition(":")[2]))
    return [f"{len(states)} connections of clients that are gone: {', '.join(sorted(set(states)))}"][
        : len(states)
    ]


def second_copies(log: Iterable[dict[str, Any]]) -> list[str]:
    """Return the loads that began while the same worker was loading the same model already."""
    under_way: dict[int, tuple[str, str]] = {}
    found = []
    for entry in log:
        event, number = str(entry.get("event", "")), entry.get("load")
        if event == _COUNTED_ANEW or event.endswith(_LINES_MISSING):
            under_way.clear()
        elif event == "load" and isinstance(number, int):
            place = (str(entry["worker"]), str(entry["model"]))
            if place in under_way.values():
                found.append(f"{place[0]} loaded {place[1]} twice at once (load {number})")
            under_way[number] = place
        elif event in _LOAD_ENDS and isinstance(number, int):
            under_way.pop(number, None)
    return found
