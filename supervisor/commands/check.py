"""`corral check`: says what `corral up` would start, or everything that keeps it from starting.

Decides the table and the JSON; finds nothing out itself. With --schema it prints what a file may hold.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Final

from supervisor.contract.command import EXIT_OK, EXIT_USAGE
from supervisor.contract.config import ExternalWorker
from supervisor.contract.json_schema import json_schema
from supervisor.contract.shell import terminal
from supervisor.contract.table import table
from supervisor.contract.yaml_config import ConfigError
from supervisor.core.memory import gib
from supervisor.core.spec import WorkerSpec
from supervisor.engines.registry import ENGINES
from supervisor.preflight import Preflight, preflight

_Row = tuple[str, ...]

HELP: Final = "check a configuration file and show the workers it means on this machine"

_HEAD: Final = (
    "WORKER",
    "ENGINE",
    "DEVICE",
    "SLOTS",
    "LOADED",
    "QUEUE",
    "CONTEXT",
    "KEEP-ALIVE",
    "MEMORY",
    "MODELS",
)
_SPARE: Final = ("KEEP-ALIVE", "QUEUE", "LOADED", "CONTEXT")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare FILE, which may stand behind -c as with other commands, --json and --schema."""
    one = parser.add_mutually_exclusive_group()
    one.add_argument("file", metavar="FILE", nargs="?", type=Path, help="YAML file; without it all defaults")
    one.add_argument("-c", "--config", metavar="FILE", type=Path, help="the same, as other commands take it")
    parser.add_argument("--json", action="store_true", help="print the workers, or the mistakes, as JSON")
    parser.add_argument(
        "--schema",
        action="store_true",
        help="print the JSON Schema of the file, for editors, and check nothing",
    )


def run(args: Namespace) -> int:
    """Print the workers and return 0, or the mistakes and return 2."""
    if args.schema:
        sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
        return EXIT_OK
    try:
        found = preflight(args.file or args.config, engines=ENGINES)
    except ConfigError as error:
        _print_mistakes(error, json_wanted=args.json)
        return EXIT_USAGE
    sys.stdout.write(as_json(found) if args.json else as_text(found))
    return EXIT_OK


def as_text(found: Preflight) -> str:
    """Return what was found, for people."""
    rows = [_HEAD, *_own_rows(found), *map(_external_row, found.config.external)]
    facts = [
        ("listen", found.config.listen),
        ("runtime_dir", found.paths.runtime_dir),
        ("store", found.paths.store),
        ("gguf_dir", found.paths.gguf_dir),
        ("state_dir", found.paths.state_dir),
    ]
    own, others = len(found.workers), len(found.config.external)
    counted = f"{_counted(own)} on this machine" + (f", {others} external" if others else "")
    lines = [f"{found.file}: valid, {counted}", "", *table(rows, width=terminal.width(), spare=_SPARE), ""]
    lines += [f"{name:<11}  {value}" for name, value in facts]
    notes = ["", *(f"note: {note}" for note in found.notes)] if found.notes else []
    return "\n".join([*lines, *notes]) + "\n"


def as_json(found: Preflight) -> str:
    """Return what was found, for programs, in the terms of the configuration file and the worker specs."""
    content = {
        "file": found.file,
        "listen": found.config.listen,
        **asdict(found.paths),
        "workers": [asdict(spec) | {"devices": _devices_json(spec)} for spec in found.workers],
        "external": [worker.model_dump(mode="json") for worker in found.config.external],
        "notes": [asdict(note) for note in found.notes],
    }
    return json.dumps(content, indent=2) + "\n"


def keep_alive_text(seconds: float | None) -> str:
    """Return a keep-alive for people: `5m`, `1h30m`, `90s`, `for ever`."""
    if seconds is None:
        return "for ever"
    if seconds % 60:
        return f"{seconds:g}s"
    hours, minutes = divmod(int(seconds) // 60, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes else "") or "0s"


def _own_rows(found: Preflight) -> list[_Row]:
    listed = () if found.config.workers == "auto" else found.config.workers
    said = {worker.name: worker.num_parallel for worker in listed}
    default = found.config.worker_defaults.num_parallel
    automatic = {spec.name for spec in found.workers if (said.get(spec.name) or default) == "auto"}
    return [_own_row(spec, auto_slots=spec.name in automatic) for spec in found.workers]


def _own_row(spec: WorkerSpec, *, auto_slots: bool) -> _Row:
    return (
        spec.name,
        spec.engine,
        ", ".join(device.label for device in spec.devices),
        f"{spec.num_parallel} (auto)" if auto_slots else str(spec.num_parallel),
        *_limits(spec, spec.keep_alive_s, spec.memory_bytes),
    )


def _external_row(worker: ExternalWorker) -> _Row:
    limits = _limits(worker, worker.keep_alive, worker.memory)
    return (worker.name, worker.engine, worker.url, str(worker.num_parallel), *limits)


def _limits(worker: WorkerSpec | ExternalWorker, keep_alive_s: float | None, memory_bytes: int) -> _Row:
    return (
        str(worker.max_loaded_models),
        str(worker.max_queue),
        str(worker.context_length),
        keep_alive_text(keep_alive_s),
        gib(memory_bytes),
        "any" if worker.models is None else ", ".join(worker.models),
    )


def _counted(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers"


def _devices_json(spec: WorkerSpec) -> list[dict[str, str]]:
    return [device.model_dump(mode="json") for device in spec.devices]


def _print_mistakes(error: ConfigError, *, json_wanted: bool) -> None:
    if json_wanted:
        mistakes = [asdict(mistake) for mistake in error.mistakes]
        sys.stdout.write(json.dumps({"mistakes": mistakes}, indent=2) + "\n")
    else:
        sys.stderr.write(f"{error}\n")
