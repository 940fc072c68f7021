"""`corral install --systemd`: makes Corral a service of this machine, or says what would be done.

Decides what is asked of the machine for it, and what people are told. What the files say is decided in
`supervisor/core/service_files.py`, which of them are written in `supervisor/core/install_plan.py`.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from supervisor.contract.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from supervisor.contract.mistakes import MistakesError
from supervisor.contract.yaml_config import ConfigError, ConfigSource, parse_source
from supervisor.core.install_plan import NEXT, TOOLS, Action, PlannedFile, notes, plan_files
from supervisor.core.machine import Machine
from supervisor.core.paths import SERVICE_STORE, Paths, Surroundings, resolve_paths
from supervisor.core.service_files import CONFIG, DEFAULT, ENVIRONMENT, Installation, service_files
from supervisor.core.starter_file import starter_file
from supervisor.core.takeover import take_over
from supervisor.host.gpus import GpuInventoryError
from supervisor.host.installation import (
    has_group,
    is_active,
    is_booted,
    own_directories,
    own_program,
    read_file,
    run_tool,
    write_file,
)
from supervisor.host.machine import read_machine
from supervisor.host.ollama_service import read_service_environment

HELP: Final = "make Corral a systemd service of this machine"
_OLLAMA: Final = "ollama"
"""The group, and the unit, of Ollama's own installer."""
_SOME_UID: Final = 1
"""Any that is not root's: only root has other directories."""
_DONE: Final[Mapping[Action, str]] = {
    Action.WRITE: "written",
    Action.REPLACE: "replaced",
    Action.UNCHANGED: "unchanged",
    Action.KEEP: "kept as it is",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare --systemd, --dry-run, --root and --json."""
    parser.add_argument("--systemd", action="store_true", required=True, help="the only way there is today")
    parser.add_argument("--dry-run", action="store_true", help="print the files and write nothing")
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        default=Path("/"),
        help="write below DIR, for packages and images; systemd is told nothing",
    )
    parser.add_argument("--json", action="store_true", help="print what is done as JSON, texts included")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """What was, or would be, done."""

    files: tuple[PlannedFile, ...]
    notes: tuple[str, ...]
    next: tuple[str, ...]


def run(args: Namespace) -> int:
    """Write the files and have systemd read them; return 2 where it cannot be told what to write."""
    lives = args.root == Path("/")
    if lives and not args.dry_run and os.geteuid() != 0:
        sys.stderr.write(
            f"corral install writes to /etc: run `sudo {own_program()} install --systemd`,"
            " or look first with --dry-run\n"
        )
        return EXIT_USAGE
    try:
        report = _plan(args.root)
    except (GpuInventoryError, ConfigError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    except OSError as error:
        sys.stderr.write(f"{error.filename} cannot be read: {error.strerror}\n")
        return EXIT_FAILED
    unwritten = {} if args.dry_run else dict(_write(args.root, report.files))
    failures = [*unwritten.values(), *(_tell_systemd() if lives and not args.dry_run else ())]
    if args.json:
        sys.stdout.write(_as_json(report, failures))
    else:
        sys.stdout.write(_as_text(report, dry=args.dry_run, unwritten=unwritten, is_done=not failures))
    sys.stderr.write("".join(f"{failure}\n" for failure in failures))
    return EXIT_FAILED if failures else EXIT_OK


# Looking.


def _plan(root: Path) -> _Report:
    machine = read_machine()
    starter = _starter(machine)
    there = read_file(_below(root, CONFIG))
    installation = _installation(machine, parse_source(starter if there is None else there, file=CONFIG))
    wanted = service_files(installation)
    found = {path: read_file(_below(root, path)) for path in (*wanted, CONFIG)}
    told = notes(
        ollama_runs=is_active(f"{_OLLAMA}.service"), reads_service_store=SERVICE_STORE in installation.writes
    )
    return _Report(files=plan_files(wanted, starter, found), notes=told, next=NEXT)


def _starter(machine: Machine) -> str:
    taken = take_over({}, read_service_environment(), has_ollama=machine.ollama_path is not None)
    return starter_file(machine, taken)


def _installation(machine: Machine, source: ConfigSource) -> Installation:
    paths = _paths(source)
    ollama = () if machine.ollama_path is None else (str(Path(machine.ollama_path).resolve()),)
    return Installation(
        program=own_program(),
        reads=(*own_directories(), *ollama),
        writes=(paths.store, paths.gguf_dir, paths.state_dir),
        listen=source.config.listen,
        runtime_dir=paths.runtime_dir,
        groups=(*DEFAULT.groups, *([_OLLAMA] if has_group(_OLLAMA) else [])),
    )


def _paths(source: ConfigSource) -> Paths:
    """Return the directories as the service will understand the file."""
    around = Surroundings(
        environ=ENVIRONMENT, uid=_SOME_UID, base_dir=str(Path(CONFIG).parent), is_dir=os.path.isdir
    )
    try:
        return resolve_paths(source.config, around)
    except MistakesError as error:
        raise source.blame(error.mistakes) from error


# Doing.


def _write(root: Path, files: Iterable[PlannedFile]) -> Iterator[tuple[str, str]]:
    """Write what is to be written; yield each file that could not be, with a sentence."""
    for file in files:
        if file.is_written:
            try:
                write_file(_below(root, file.path), file.text)
            except OSError as error:
                yield file.path, f"{_below(root, file.path)} cannot be written: {error.strerror}"


def _tell_systemd() -> Iterator[str]:
    """Have it read the files, where it runs this machine; yield a sentence for each tool that failed."""
    for tool in TOOLS if is_booted() else ():
        wrong = run_tool(tool)
        if wrong is not None:
            yield f"{' '.join(tool)}: {wrong}"


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


# Telling.


def _as_text(report: _Report, *, dry: bool, unwritten: Container[str], is_done: bool) -> str:
    lines = [f"{file.action if dry else _became(file, unwritten)}: {file.path}" for file in report.files]
    if dry:
        written = (file for file in report.files if file.is_written)
        lines += [f"\n--- {file.path}\n{file.text.rstrip()}" for file in written]
    lines += ["", *(f"note: {note}" for note in report.notes)] if report.notes else []
    if not is_done:
        return "\n".join([*lines, ""])
    return "\n".join([*lines, "", "next:", *(f"  {step}" for step in report.next), ""])


def _became(file: PlannedFile, unwritten: Container[str]) -> str:
    return "not written" if file.path in unwritten else _DONE[file.action]


def _as_json(report: _Report, failures: list[str]) -> str:
    return json.dumps({**asdict(report), "failures": failures}, indent=2) + "\n"
