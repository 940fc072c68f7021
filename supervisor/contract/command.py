"""What a module must offer to be a subcommand of `corral`, and what those of both programs have in common.

A command is a module named in the entry-point group `corral.commands`; the entry's name is the
subcommand's. The `corral` command finds it there, so supervisor and gateway stay unaware of each other.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final, Protocol

ENTRY_POINT_GROUP: Final = "corral.commands"

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
"""The command ran and found or met something wrong."""
EXIT_USAGE: Final = 2
"""Nothing was started: bad configuration, missing binary, taken port, no such GPU."""

PLACE_REMEDY: Final = "mend it, or name the directory of the sockets with --runtime-dir DIR"
"""What is said where the file does not tell how the running Corral is found."""


def add_place_arguments(parser: ArgumentParser) -> None:
    """Declare how a command finds the running Corral on this machine."""
    parser.add_argument("-c", "--config", metavar="FILE", help="the file that `corral up` was started with")
    parser.add_argument("--runtime-dir", metavar="DIR", help="where its sockets are (default: the file's)")


def greeting(url: str) -> str:
    """Return what is said once clients are served at the URL."""
    return f"Corral is ready: {url}  (try: OLLAMA_HOST={url.removeprefix('http://')} ollama ls)"


class Command(Protocol):
    """The module-level names that a command module defines."""

    HELP: str
    """One line for `corral --help`."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the subcommand's options on its own parser."""

    def run(self, args: Namespace) -> int:
        """Run the command and return its exit code (one of the `EXIT_` constants)."""
