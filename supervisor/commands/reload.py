"""`corral reload`: brings the changed configuration file into force without stopping what need not stop."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from supervisor.commands import control_client

HELP: Final = (
    "bring the changed configuration file into force; workers that are not concerned keep their models"
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(command="reload")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    control_client.add_arguments(parser)


def run(args: Namespace) -> int:
    """Reload; return 0 when it is in force, 2 where the file is wrong and nothing changed, else 1."""
    return control_client.carry_out(args, {"command": "reload", "dry_run": args.dry_run})
