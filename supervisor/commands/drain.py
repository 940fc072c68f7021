"""`corral drain WORKER`: ends a worker once the answers it computes have ended."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from supervisor.commands import control_client

HELP: Final = "give a worker no new requests and end it when its answers have ended; resume brings it back"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(command="drain")
    control_client.add_worker_arguments(parser, "its name, as `corral ps` shows it")


def run(args: Namespace) -> int:
    """Drain; return 0 when it has ended, 2 where there is no such worker, else 1."""
    question = {"command": "drain", "worker": args.worker, "wait": not args.no_wait}
    return control_client.carry_out(args, question)
