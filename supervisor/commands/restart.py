"""`corral restart WORKER` and `corral restart gateway`: a new process in place of the old one, unnoticed."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from supervisor.commands import control_client
from supervisor.contract.values import GATEWAY_NAME

HELP: Final = "replace a worker once its answers have ended, or the gateway without anyone noticing"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(command="restart")
    control_client.add_worker_arguments(parser, f"its name, as `corral ps` shows it, or `{GATEWAY_NAME}`")


def run(args: Namespace) -> int:
    """Restart; return 0 when the successor is ready, 2 where there is no such worker, else 1."""
    asked = {"command": "restart", "worker": args.worker}
    if args.worker == GATEWAY_NAME:
        asked = {"command": "restart-gateway"}
    return control_client.carry_out(args, {**asked, "wait": not args.no_wait})
