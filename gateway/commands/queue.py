"""`corral queue`: who waits, for what, and until when, asked of the running gateway."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any, Final

from gateway.commands.admin_socket import NobodyAnswersError, add_socket_arguments, ask_gateway
from gateway.commands.settings import SettingsError
from supervisor.contract.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from supervisor.contract.table import table

HELP = "show the requests that wait, their places in line and when they may begin"

_HEAD: Final = ("REQUEST", "MODEL", "TENANT", "PLACE", "WAITED", "STARTS IN", "WAITS FOR")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_socket_arguments(parser)
    parser.epilog = "Times are estimates from what answers and loads took so far."


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    try:
        _, answer = ask_gateway(args, "/corral/queue")
    except SettingsError as error:
        print(f"corral queue: {error}", file=sys.stderr)
        return EXIT_USAGE
    except NobodyAnswersError as error:
        print(f"corral queue: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(json.dumps(answer, indent=2) if args.json else "\n".join(_lines(answer["waiting"])))
    return EXIT_OK


def _lines(waiting: list[dict[str, Any]]) -> Iterator[str]:
    if not waiting:
        yield "Nobody waits."
        return
    yield from table([_HEAD, *map(_cells, waiting)])


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
