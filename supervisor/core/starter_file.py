"""The text of a new configuration file for one machine, with what was taken over from an Ollama.

Decides the words of the file; `corral check` takes what it writes. Must not know where anything was read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from supervisor.contract.config import Config, GatewayConfig, WorkerDefaults
from supervisor.core.devices import auto_gpus, auto_name
from supervisor.core.machine import Gpu, Machine, core_list
from supervisor.core.memory import gib
from supervisor.core.takeover import Taken, Value, listen_address

_PLAIN: Final = re.compile(
    r"(?!(?:null|true|false)\Z)[a-z/][a-z0-9_./-]*\Z|[0-9.]+:[0-9]+\Z|(?:[0-9]+(?:h|m|s|ms))+\Z",
    re.IGNORECASE,
)
"""Words and paths, addresses, durations: what stands without quotes."""
_ENV: Final = "worker_defaults.env."
_DEFAULTS: Final = (
    ("num_parallel", "Slots of each loaded model: answers computed at once. auto is 4, or 1 below 4 GiB."),
    ("max_loaded_models", "Models that a worker holds at once, if its memory allows."),
    ("max_queue", "Requests that may wait for a worker; one more is refused with 503."),
    ("context_length", "Tokens of each slot, prompt and answer together."),
    ("keep_alive", "How long an idle model stays loaded; 0 unloads at once, -1 never."),
    ("memory", "What the models of a worker may take: a size (20GiB), a share (80%) or auto."),
)


def starter_file(machine: Machine, taken: tuple[Taken, ...]) -> str:
    """Return the file's text for a machine and what became of Ollama's variables."""
    values = {one.key: one for one in taken if one.key}
    parts = [_head(machine), _listen(values, taken), _store(values), _worker_defaults(values)]
    parts += [_workers(machine), _gateway(values)]
    return "\n".join(f"{part}\n" for part in parts if part)


def _head(machine: Machine) -> str:
    gpus = ", ".join(_described(gpu) for gpu in machine.gpus) or "no GPUs"
    ollama, cores = machine.ollama_path or "no ollama binary in PATH", core_list(machine.cores)
    return "\n".join(
        [
            "# Corral's configuration, begun by `corral init`. A key that is left out has its default.",
            "# `corral check FILE` shows what the file means on this machine, `corral check --schema` prints",
            "# all keys for an editor.",
            "#",
            f"# Found here: {gpus}; cores {cores}; {gib(machine.ram_bytes)} of RAM; {ollama}.",
        ]
    )


def _described(gpu: Gpu) -> str:
    return f"GPU {gpu.number} ({gpu.name}, {gib(gpu.memory_total_bytes)})"


def _line(key: str, value: Value, why: str = "") -> str:
    return f"{key}: {_scalar(value)}" + (f"  # {why}" if why else "")


def _scalar(value: Value) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    return value if _PLAIN.match(value) else _quoted(value)


def _quoted(text: str) -> str:
    """Return it as YAML writes texts with characters that may not stand there as they are."""
    escaped = (char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}" for char in text)
    return f'"{"".join(escaped)}"'


def _why(one: Taken) -> str:
    return f"{one.setting.variable} of {one.setting.source}"


def _listen(values: Mapping[str, Taken], taken: tuple[Taken, ...]) -> str:
    lines = ["# HOST:PORT for clients."]
    for one in taken:
        if one.setting.variable == "OLLAMA_HOST" and not one.key and (address := _address(one)):
            lines += [
                f"# {_why(one)} is {_quoted(one.setting.value)}: other machines reach Ollama there,",
                "# without keys. Shall they reach Corral, too? Then remove the # from these two lines,",
                "# and delete the line behind them:",
                "# auth: none",
                f"# {_line('listen', address)}",
            ]
    given = values.get("listen")
    lines.append(_line("listen", given.value, _why(given)) if given else _line("listen", Config().listen))
    return "\n".join(lines)


def _address(one: Taken) -> str | None:
    try:
        return listen_address(one.setting.value)
    except ValueError:
        return None


def _store(values: Mapping[str, Taken]) -> str:
    if given := values.get("store"):
        return "# Ollama's model store.\n" + _line("store", given.value, _why(given))
    return ""


def _worker_defaults(values: Mapping[str, Taken]) -> str:
    shown = WorkerDefaults().model_dump() | {"keep_alive": "5m"}
    lines = ["# What holds for every worker that does not say otherwise.", "worker_defaults:"]
    for name, comment in _DEFAULTS:
        given = values.get(f"worker_defaults.{name}")
        line = _line(name, given.value, _why(given)) if given else _line(name, shown[name])
        lines += [f"  # {comment}", f"  {line}"]
    for name in ("flash_attention", "kv_cache_type"):
        if given := values.get(f"worker_defaults.{name}"):
            lines.append(f"  {_line(name, given.value, _why(given))}")
    variables = {key.removeprefix(_ENV): one for key, one in values.items() if key.startswith(_ENV)}
    if variables:
        lines += ["  # Further environment variables of the worker processes.", "  env:"]
        lines += [f"    {_variable(name, one)}" for name, one in variables.items()]
    return "\n".join(lines)


def _variable(name: str, one: Taken) -> str:
    return f"{name}: {_quoted(str(one.value))}  # {one.setting.source}"


def _workers(machine: Machine) -> str:
    gpus = auto_gpus(machine)
    if not gpus:
        return _cpu_workers(machine)
    if machine.ollama_path is not None:
        return "\n".join(
            [
                "# One worker for each GPU; `workers: auto` means the same. gpus: [A, B] gives a worker two,",
                "# models: [NAME] lets it serve these models only, and two workers may share a GPU.",
                "workers:",
                *_entries(gpus),
            ]
        )
    return "\n".join(
        [
            "# No ollama binary is in PATH, and the embedded engine computes on the CPU, so these do.",
            "# Once Ollama is installed (https://ollama.com/download), remove these and the # below.",
            "workers:",
            *(f"  - name: cpu{number}" for number in range(_cpu_count(machine))),
            "",
            *(f"# {entry}" for entry in _entries(gpus)),
        ]
    )


def _entries(gpus: tuple[Gpu, ...]) -> Iterator[str]:
    for gpu in gpus:
        yield f"  - name: {auto_name(gpu)}"
        yield f"    gpus: [{_gpu_id(gpu)}]  # {_described(gpu)}"


def _gpu_id(gpu: Gpu) -> str:
    """An AMD GPU without a UUID has only its index."""
    return str(gpu.index) if gpu.uuid.isdigit() else gpu.uuid


def _cpu_workers(machine: Machine) -> str:
    return "\n".join(
        [
            "# Without GPUs, so many workers compute on the CPU, each on cores of its own.",
            _line("cpu_workers", _cpu_count(machine)),
            "workers: auto",
        ]
    )


def _cpu_count(machine: Machine) -> int:
    return min(Config().cpu_workers, len(machine.cores))


def _gateway(values: Mapping[str, Taken]) -> str:
    if given := values.get("gateway.load_timeout"):
        comment = f"  # For loading a model; otherwise {GatewayConfig().load_timeout:g} seconds."
        return f"gateway:\n{comment}\n  {_line('load_timeout', given.value, _why(given))}"
    return ""
