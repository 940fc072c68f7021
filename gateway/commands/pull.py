"""`corral pull MODEL`: fetch a model from a registry into the stores of the workers."""

from __future__ import annotations

import argparse

import ollama

from gateway.commands.endpoint import add_endpoint_arguments, with_client
from gateway.commands.progress import follow
from supervisor.contract.command import EXIT_OK

HELP = "fetch a model from a registry"

_DESCRIPTION = """\
Fetches a model into every store that a worker may serve it from, once where workers share one. A pull that
was broken off goes on where it was; one of the same model that is under way is joined.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = _DESCRIPTION
    parser.add_argument("model", metavar="MODEL", help="such as llama3.2, or HOST/NAMESPACE/MODEL:TAG")
    parser.add_argument("--insecure", action="store_true", help="let the registry be one without TLS")
    parser.add_argument("--json", action="store_true", help="print the progress as JSON, an object a line")
    add_endpoint_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Pull and show how far it is."""
    return with_client(args, f"pull {args.model}", lambda client: _pull(client, args))


def _pull(client: ollama.Client, args: argparse.Namespace) -> int:
    follow(client.pull(args.model, insecure=args.insecure, stream=True), as_json=args.json)
    if not args.json:
        print(f"pulled {args.model}")
    return EXIT_OK
