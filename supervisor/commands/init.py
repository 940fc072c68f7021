"""`corral init`: writes a commented configuration file for this machine and takes over Ollama's settings.

Decides what is said about it; the words of the file are `starter_file.py`'s. Never replaces a file
without --force.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from supervisor.contract.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from supervisor.core.starter_file import starter_file
from supervisor.core.takeover import Taken, take_over
from supervisor.host.gpus import GpuInventoryError
from supervisor.host.machine import read_machine
from supervisor.host.ollama_service import read_service_environment

HELP: Final = "write a configuration file for this machine, with the settings of an installed Ollama"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare --output and --force."""
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", default=Path("corral.yaml"), help="default: corral.yaml"
    )
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")


def run(args: Namespace) -> int:
    """Write the file and say what was taken over; return 2 if there is one already."""
    try:
        machine = read_machine()
    except GpuInventoryError as error:
        sys.stderr.write(f"corral init: {error}\n")
        return EXIT_USAGE
    service = read_service_environment()
    taken = take_over(os.environ, service, has_ollama=machine.ollama_path is not None)
    try:
        with args.output.open("w" if args.force else "x", encoding="utf-8") as file:
            file.write(starter_file(machine, taken))
    except FileExistsError:
        remedy = "name another file with -o, or replace it with --force"
        sys.stderr.write(f"corral init: {args.output} is there already: {remedy}\n")
        return EXIT_USAGE
    except OSError as error:
        sys.stderr.write(f"corral init: {args.output} cannot be written: {error.strerror}\n")
        return EXIT_FAILED
    sys.stdout.write(report(args.output, taken))
    return EXIT_OK


def report(output: Path, taken: tuple[Taken, ...]) -> str:
    """Return what became of each variable, and what to do next."""
    lines = [f"{output}: written", *(f"  {_told(one)}" for one in taken)]
    return "\n".join([*lines, f"see what it means: corral check {output}", ""])


def _told(one: Taken) -> str:
    found = f"{one.setting.variable}={one.setting.value} ({one.setting.source})"
    return f"{found} -> {one.key}" if one.key else f"{found} is not taken over: {one.remark}"
