"""`corral ps`: workers, what they hold and what waits, asked of the running gateway."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from gateway.commands.admin_socket import add_socket_arguments, show_answer
from gateway.commands.sizes import size_in_words
from supervisor.contract.shell import terminal
from supervisor.contract.table import table

HELP = "show workers, loaded models, busy slots and queues"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_socket_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    return show_answer(args, "ps", "/corral/fleet", _lines)


_SPARE = ("DIGEST", "CONTEXT", "CPU/GPU", "SIZE", "UNTIL")
_HEAD = ("WORKER", "DEVICE", "STATE", "MODEL", "DIGEST", "SIZE", "CPU/GPU", "CONTEXT", "SLOTS", "UNTIL")


def _lines(fleet: dict[str, Any]) -> Iterator[str]:
    now = datetime.now(UTC)
    rows = [row for worker in fleet["workers"] for row in _worker_rows(worker, now)]
    yield from table([_HEAD, *rows], width=terminal.width(), spare=_SPARE)
    waiting = fleet["queue"]
    yield ""
    yield "Queue: " + (", ".join(f"{q['model']} {q['waiting']}" for q in waiting) if waiting else "empty")
    for worker in fleet["workers"]:
        if worker["state"] != "ready":
            yield f"{worker['worker']} is {worker['state']}: {worker['reason']}"
        elif worker["left_out"]:
            yield f"{worker['worker']} gets no requests for now: {worker['left_out']}"
        if worker["condition"] not in ("", worker["reason"]):
            yield f"NOTE {worker['worker']}: {worker['condition']}"


def _worker_rows(worker: dict[str, Any], now: datetime) -> Iterator[tuple[str, ...]]:
    device = ", ".join(device["label"] for device in worker["devices"])
    head = (worker["worker"], device, worker["state"])
    if not worker["resident"]:
        yield (*head, "-", "", "", "", "", f"0/{worker['num_parallel']}", "")
    for model in worker["resident"]:
        yield (*head, *_model_cells(model, now))
        head = ("", "", "")


def _model_cells(model: dict[str, Any], now: datetime) -> tuple[str, ...]:
    if model["phase"] not in ("resident", "draining") or "size" not in model:
        return (model["name"], model.get("digest", "")[:12], "", "", "", model["phase"], "")
    return (
        model["name"],
        model["digest"][:12],
        size_in_words(model["size"]),
        _split(model["size"], model["size_vram"]),
        str(model["context_length"]),
        f"{model['busy']}/{model['num_parallel']}",
        _until(model["expires_at"], now),
    )


def _split(size: int, vram: int) -> str:
    """Where the model lies, as `ollama ps` says it."""
    on_gpu = round(100 * vram / size) if size else 0
    if on_gpu in (0, 100):
        return "100% GPU" if on_gpu else "100% CPU"
    return f"{100 - on_gpu}%/{on_gpu}% CPU/GPU"


def _until(expires_at: str, now: datetime) -> str:
    seconds = (datetime.fromisoformat(expires_at) - now).total_seconds()
    if seconds > 10 * 365 * 86400:
        return "for ever"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 -- two digits
