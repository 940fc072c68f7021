"""`corral explain`: why a request went where it went, asked of the running gateway or read from a log."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO
from urllib.parse import quote

from gateway.commands.admin_socket import NobodyAnswersError, add_socket_arguments, ask_gateway
from gateway.commands.explanation import explanation
from gateway.commands.settings import SettingsError
from gateway.decisions.log import explain_from_log
from gateway.decisions.memory import UnknownRequestError
from supervisor.contract.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE

HELP = "tell why a request went where it went, and what was loaded for it"

_FOUND: Final = 200
_UNKNOWN: Final = 404


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "request", metavar="REQUEST_ID", help="X-Request-Id of the answer, `id` in the log; its start will do"
    )
    parser.add_argument(
        "--log", metavar="FILE", help="explain from a log in JSON instead; - reads standard input"
    )
    add_socket_arguments(parser)
    parser.epilog = "docs/explain.md tells what the numbers mean, and the keys of --json."


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    try:
        document = _from_gateway(args) if args.log is None else _from_log(args)
    except SettingsError as error:
        print(f"corral explain: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (NobodyAnswersError, UnknownRequestError) as error:
        print(f"corral explain: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(json.dumps(document, indent=2) if args.json else "\n".join(explanation(document)))
    return EXIT_OK


def _from_gateway(args: argparse.Namespace) -> dict[str, Any]:
    status, answer = ask_gateway(args, f"/corral/requests/{quote(args.request, safe='')}")
    if status == _FOUND:
        return answer
    hint = f"; older requests are in the log: corral explain {args.request} --log FILE"
    raise UnknownRequestError(answer["error"] + (hint if status == _UNKNOWN else ""))


def _from_log(args: argparse.Namespace) -> dict[str, Any]:
    with _opened(args.log) as lines:
        try:
            return explain_from_log(lines, args.request)
        except UnknownRequestError as error:
            hint = "; a log in JSON is needed (log.format: json), of the time when the request ended"
            raise UnknownRequestError(f"{error} in {args.log}{hint}") from error


@contextmanager
def _opened(file: str) -> Iterator[TextIO]:
    if file == "-":
        sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]  # a TextIOWrapper, unless a test replaced it
        yield sys.stdin
        return
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:  # noqa: PTH123 -- /dev/stdin and the like too
            yield lines
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from error
