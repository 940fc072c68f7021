"""`corral cp A B`: give a model a second name."""

from __future__ import annotations

import argparse
import json

import ollama

from gateway.commands.endpoint import add_endpoint_arguments, with_client
from supervisor.contract.command import EXIT_OK

HELP = "give a model a second name"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", metavar="MODEL", help="a name that `corral models` lists")
    parser.add_argument("destination", metavar="NAME", help="what it is to be called too")
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")
    add_endpoint_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Copy."""
    return with_client(args, f"cp {args.source}", lambda client: _copy(client, args))


def _copy(client: ollama.Client, args: argparse.Namespace) -> int:
    client.copy(args.source, args.destination)
    done = {"source": args.source, "destination": args.destination}
    print(json.dumps(done) if args.json else f"copied {args.source} to {args.destination}")
    return EXIT_OK
