"""`corral rm MODEL...`: delete models from the stores of the workers."""

from __future__ import annotations

import argparse
import json
import sys

import ollama

from gateway.commands.endpoint import add_endpoint_arguments, with_client
from supervisor.contract.command import EXIT_FAILED, EXIT_OK

HELP = "delete models"

_DESCRIPTION = """\
Deletes models everywhere. One that is loaded leaves memory first: answers under way are finished, requests
that wait for it are told that it is not there.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = _DESCRIPTION
    parser.add_argument("models", metavar="MODEL", nargs="+", help="names that `corral models` lists")
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")
    add_endpoint_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Delete one after the other; what cannot be deleted does not keep the others."""
    return with_client(args, "rm", lambda client: _delete(client, args))


def _delete(client: ollama.Client, args: argparse.Namespace) -> int:
    deleted: list[str] = []
    failed: dict[str, str] = {}
    for model in args.models:
        try:
            client.delete(model)
        except ollama.ResponseError as error:
            failed[model] = error.error
            print(f"corral rm {model}: {error.error}", file=sys.stderr)
        else:
            deleted.append(model)
            if not args.json:
                print(f"deleted {model}")
    if args.json:
        print(json.dumps({"deleted": deleted, "failed": failed}))
    return EXIT_FAILED if failed else EXIT_OK
