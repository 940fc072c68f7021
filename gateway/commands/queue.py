"""`corral queue`: who waits, for what, and until when, asked of the running gateway."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Final

from gateway.commands.admin_socket import add_socket_arguments, show_answer
from supervisor.contract.shell import terminal
from supervisor.contract.table import table

HELP = "show the requests that wait, their places in line and when they may begin"

_HEAD: Final = ("REQUEST", "MODEL", "TENANT", "PLACE", "WAITED", "STARTS IN", "WAITS FOR")
_SPARE: Final = ("TENANT", "WAITED")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_socket_arguments(parser)
    parser.epilog = "Times are estimates from what answers and loads took so far."


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    return show_answer(args, "queue", "/corral/queue", _lines)


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    waiting = answer["waiting"]
    if not waiting:
        yield "Nobody waits."
        return
    yield from table([_HEAD, *map(_cells, waiting)], width=terminal.width(), spare=_SPARE)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    starts = row["starts_in_s"]
    where = f" on {row['loading_on']}" if "loading_on" in row else ""
    return (
        row["id"],
        row["model"],
        f"{row['tenant']}{' (background)' if row['background'] else ''}",
        f"{row['position']} of {row['queued']}",
        f"{row['waited_s']:.1f} s",
        "unknown" if starts is None else f"about {starts:.0f} s",
        row["awaiting"] + where,
    )
