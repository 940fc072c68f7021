"""`corral resume WORKER`: lets a drained worker serve again."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from supervisor.commands import control_client

HELP: Final = "let a drained worker serve again; one that still drains serves on with its models"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(command="resume")
    control_client.add_worker_arguments(parser, "its name, as `corral ps` shows it")


def run(args: Namespace) -> int:
    """Resume; return 0 when it is ready, 2 where there is no such worker, else 1."""
    question = {"command": "resume", "worker": args.worker, "wait": not args.no_wait}
    return control_client.carry_out(args, question)
