"""Asks the running supervisor on its control socket, for commands that change what runs.

Decides how a command finds the socket, and what people see until it is done: progress as it comes, or with
--json the last answer alone.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from supervisor.contract.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE, PLACE_REMEDY, add_place_arguments
from supervisor.contract.runtime_dir import CONTROL_SOCKET, PathError, runtime_dir
from supervisor.contract.yaml_config import ConfigError
from supervisor.host.config_file import load_runtime_dir

_CONNECT_S: Final = 10.0


class NobodyAnswersError(Exception):
    """No supervisor answers there; the text says where, and what to do."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare how the socket is found."""
    add_place_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the last answer as JSON, for scripts")


def add_worker_arguments(parser: ArgumentParser, what: str) -> None:
    """Declare the same and a worker, and whether to wait."""
    parser.add_argument("worker", metavar="WORKER", help=what)
    parser.add_argument("--no-wait", action="store_true", help="say what is to be done and return at once")
    add_arguments(parser)


def carry_out(args: Namespace, question: Mapping[str, Any]) -> int:
    """Ask, print what is answered, and return the exit code."""
    try:
        return _listen(args, _ask(_socket_path(args), question))
    except (ConfigError, PathError) as error:
        return _complain(args, f"{error}: {PLACE_REMEDY}", EXIT_USAGE)
    except NobodyAnswersError as error:
        return _complain(args, str(error), EXIT_FAILED)


def _socket_path(args: Namespace) -> Path:
    """Return where the socket is; what else stands in the file may be wrong while it is being edited."""
    if args.runtime_dir:
        return Path(args.runtime_dir) / CONTROL_SOCKET
    file = None if args.config is None else Path(args.config)
    base = Path.cwd() if file is None else file.absolute().parent
    try:
        return base / runtime_dir(load_runtime_dir(file), os.environ, os.getuid()) / CONTROL_SOCKET
    except PathError as error:
        raise PathError(f"{file}: runtime_dir: {error}") from error


def _ask(path: Path, question: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the answers as they come; there is no limit, because a drain may take as long as it may.

    Raises:
        NobodyAnswersError: no supervisor is there, or it went away before it was done.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_CONNECT_S)
            connection.connect(str(path))
            connection.sendall(json.dumps(question).encode() + b"\n")
            connection.settimeout(None)
            for line in connection.makefile("rb"):
                yield json.loads(line)
    except OSError as error:
        text = f"nobody answers on {path} ({error.strerror or error}); is `corral up` running?"
        raise NobodyAnswersError(text) from error


def _listen(args: Namespace, answers: Iterator[Mapping[str, Any]]) -> int:
    for answer in answers:
        if "error" in answer:
            return _complain(args, str(answer["error"]), int(answer.get("code", EXIT_FAILED)))
        if "done" in answer:
            _print_done(args, answer["done"])
            return EXIT_OK
        if not args.json:
            _print_progress(answer)
    raise NobodyAnswersError("the supervisor went away before it was done; is `corral up` still running?")


def _print_progress(answer: Mapping[str, Any]) -> None:
    lines = answer["plan"]["text"] if "plan" in answer else [answer["progress"]]
    print("\n".join(lines), flush=True)


def _print_done(args: Namespace, done: Mapping[str, Any]) -> None:
    if args.json:
        print(json.dumps(done, indent=2))
    elif "worker" in done:
        print(f"worker {done['worker']}: {done['state']} ({done['reason']})")
    elif "old_pid" in done:
        print(f"gateway: process {done['pid']} serves in place of {done['old_pid']}")
    else:
        print(done["result"])


def _complain(args: Namespace, error: str, code: int) -> int:
    if args.json:
        print(json.dumps({"error": error}, indent=2))
    else:
        print(f"corral {args.command}: {error}", file=sys.stderr)
    return code
