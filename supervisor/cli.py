"""The `corral` command: finds the subcommand by its name and runs it. Nothing else is decided here.

Subcommands are entry points, and only the chosen one is imported: `corral ps` must be quick, and one
broken command must not take the others with it.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points, version
from typing import Final, cast

from supervisor.contract.command import ENTRY_POINT_GROUP, EXIT_FAILED, EXIT_OK, EXIT_USAGE, Command
from supervisor.host.standard_error import open_missing

EXIT_INTERRUPTED: Final = 130
"""As a shell reports a program that Ctrl-C ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `corral` with the arguments after the program's name and return its exit code.

    Raises:
        SystemExit: argparse printed a subcommand's help (0) or found its arguments wrong (2).
    """
    _have_standard_streams()
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return code


def _have_standard_streams() -> None:
    """Open those that whoever started us has closed: Python has None in their place."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        open_missing()
        sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 -- for the whole life of the process
        sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 -- as above
        sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115 -- as above


def _run(argv: Sequence[str]) -> int:
    commands = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    match list(argv):
        case []:
            sys.stderr.write(_help_text(commands))
            return EXIT_USAGE
        case ["-h" | "--help", *_]:
            sys.stdout.write(_help_text(commands))
            return EXIT_OK
        case ["-V" | "--version", *_]:
            sys.stdout.write(f"corral {version('corral')}\n")
            return EXIT_OK
        case [name, *rest] if name in commands:
            return _run_command(commands[name], rest)
        case [name, *_]:
            sys.stderr.write(_unknown(name, commands))
    return EXIT_USAGE


def _run_command(entry: EntryPoint, arguments: list[str]) -> int:
    try:
        command = _load(entry)
    except ImportError as error:
        sys.stderr.write(f"corral {entry.name}: this command cannot be loaded: {error}\n")
        return EXIT_FAILED
    parser = ArgumentParser(prog=f"corral {entry.name}", description=command.HELP)
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


def _load(entry: EntryPoint) -> Command:
    return cast("Command", entry.load())


def _help_text(commands: Mapping[str, EntryPoint]) -> str:
    width = max((len(name) for name in commands), default=0)
    lines = [f"  {name:<{width}}  {_help_line(entry)}" for name, entry in sorted(commands.items())]
    return "\n".join(
        [
            "usage: corral COMMAND [ARGUMENTS]",
            "",
            "One endpoint for every GPU in the box: Corral starts an inference worker on each and gives",
            "every request to the one that answers soonest.",
            "",
            "commands:",
            *lines,
            "",
            "`corral COMMAND --help` tells more; `corral --version` prints the version.",
            "",
        ]
    )


def _help_line(entry: EntryPoint) -> str:
    try:
        return _load(entry).HELP
    except ImportError as error:
        return f"(cannot be loaded: {error})"


def _unknown(name: str, commands: Mapping[str, EntryPoint]) -> str:
    close = get_close_matches(name, commands, n=1)
    guess = f"; did you mean {close[0]}?" if close else "."
    return f"corral: there is no command {name!r}{guess} Commands: {', '.join(sorted(commands))}\n"
