"""What a module must offer to be a subcommand of `corral`.

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


class Command(Protocol):
    """The module-level names that a command module defines."""

    HELP: str
    """One line for `corral --help`."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the subcommand's options on its own parser."""

    def run(self, args: Namespace) -> int:
        """Run the command and return its exit code (one of the `EXIT_` constants)."""
