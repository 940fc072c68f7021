"""The schema of Corral's one YAML file: every key, its type, its default and what it means.

Decides what a valid file is. Knows nothing of YAML, of the machine it runs on or of the environment:
defaults that depend on those are None here and are filled in where the machine is known.
"""

from __future__ import annotations

import json
import re
from ipaddress import ip_address
from math import isfinite
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from supervisor.contract.durations import InvalidDurationError, parse_go_duration, parse_keep_alive
from supervisor.contract.names import InvalidModelNameError, ModelName

REPEATED_NAME: Final = "repeated_name"
"""Type of the pydantic error for two workers of one name."""

_LISTEN: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):(?P<port>[0-9]{1,5})\Z")
_PERCENT: Final = re.compile(r"([0-9]{1,3})%\Z")
_SIZE: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)\Z")
_WORKER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z")
_GPU_UUID: Final = re.compile(r"(GPU|MIG)-[0-9A-Za-z/-]+\Z")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_UNIT_BYTES: Final = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SET_BY_KEY: Final = {
    "CUDA_DEVICE_ORDER": "gpus",
    "CUDA_VISIBLE_DEVICES": "gpus",
    "GPU_DEVICE_ORDINAL": "gpus",
    "HIP_VISIBLE_DEVICES": "gpus",
    "OLLAMA_CONTEXT_LENGTH": "context_length",
    "OLLAMA_KEEP_ALIVE": "keep_alive",
    "OLLAMA_MAX_LOADED_MODELS": "max_loaded_models",
    "OLLAMA_MAX_QUEUE": "max_queue",
    "OLLAMA_MODELS": "store",
    "OLLAMA_NUM_PARALLEL": "num_parallel",
    "ROCR_VISIBLE_DEVICES": "gpus",
}
"""Variables that would contradict what placement decided; the key that says the same."""


def shown(value: object) -> str:
    """Return a value of the file as a short text, as the file could have written it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 -- fits a line of a terminal


def parse_size(value: object) -> int:
    """Return the bytes of `20GiB`, `512 MB` or a plain number; more than nothing.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.match(value)):
        size = int(float(match[1]) * _UNIT_BYTES[match[2]])
    else:
        raise ValueError(f"{shown(value)} is no size: write it as 20GiB, 512MiB or a number of bytes")
    if size < 1:
        raise ValueError(f"{shown(value)} must be more than nothing: write a size such as 512MiB")
    return size


def parse_percent(value: str) -> int | None:
    """Return the 80 of `80%`, or None of a text that is no percentage."""
    match = _PERCENT.match(value)
    return int(match[1]) if match else None


def _parse_seconds(value: object) -> float:
    """Take a number of seconds or a text such as `30s` or `5m`."""
    advice = "write seconds or a text such as 30s or 5m"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{shown(value)} is no duration: {advice}")
    try:
        seconds = parse_go_duration(value) if isinstance(value, str) else float(value)
    except (InvalidDurationError, OverflowError) as error:
        raise ValueError(f"{shown(value)} is no duration ({error}): {advice}") from error
    if not (isfinite(seconds) and seconds > 0):
        raise ValueError(f"{shown(value)} is no time to wait: {advice}, more than nothing and not for ever")
    return seconds


def _parse_keep_alive_key(value: object) -> float | None:
    try:
        return parse_keep_alive(value)
    except InvalidDurationError as error:
        advice = "write seconds, a text such as 5m, or -1 for ever"
        raise ValueError(f"{shown(value)} is no duration ({error}): {advice}") from error


def _check_model_name(value: str) -> str:
    try:
        ModelName.parse(value)
    except InvalidModelNameError as error:
        raise ValueError(f"{shown(value)} can be no model's name: write one such as llama3.2:3b") from error
    return value


def _check_memory(value: object) -> str:
    percent = parse_percent(value) if isinstance(value, str) else None
    if percent is not None:
        if not 1 <= percent <= 100:  # noqa: PLR2004 -- a percentage
            raise ValueError(f"{shown(value)} is not between 1% and 100%")
    elif not isinstance(value, str):
        raise ValueError(
            f"{shown(value)} has no unit: write a size such as 20GiB, a share such as 80%, or auto"
        )
    elif value != "auto":
        parse_size(value)
    return str(value)


def _check_listen(value: str) -> str:
    match = _LISTEN.match(value)
    if match is None or int(match["port"]) > 65535:  # noqa: PLR2004 -- the highest TCP port
        raise ValueError(f"{shown(value)} is no address: write HOST:PORT, for example 127.0.0.1:11434")
    return value


def _check_worker_name(value: str) -> str:
    if not _WORKER_NAME.match(value):
        raise ValueError(
            f"{shown(value)} is no name for a worker: write up to 32 lower-case letters, digits, - and _, "
            "a letter or digit first"
        )
    return value


def _check_gpu(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and _GPU_UUID.match(value):
        return value
    raise ValueError(
        f"{shown(value)} names no GPU: write its index, such as 0, or its UUID, such as GPU-5a6b..., "
        "as `nvidia-smi -L` shows them"
    )


def _check_variable(name: str) -> str:
    if not _VARIABLE.match(name):
        raise ValueError(f"{shown(name)} can be no environment variable: write NAME: value")
    if name in _SET_BY_KEY:
        raise ValueError(f"{name} is Corral's to set: write the key {_SET_BY_KEY[name]} instead")
    if name == "OLLAMA_HOST":
        raise ValueError(
            "OLLAMA_HOST is Corral's to set, because each worker has a port of its own: remove it"
        )
    return name


def _check_variable_text(text: str) -> str:
    if "\0" in text:
        raise ValueError(f"{shown(text)} has a NUL in it, which no environment variable can hold: remove it")
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _kind_of_workers(value: object) -> str | None:
    if isinstance(value, (list, tuple)):
        return "list"
    return "auto" if value == "auto" else None


def _check_workers(workers: tuple[WorkerConfig, ...]) -> tuple[WorkerConfig, ...]:
    if not workers:
        raise ValueError("is an empty list: write at least one worker, or auto")
    names = [worker.name for worker in workers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PydanticCustomError(REPEATED_NAME, "two workers have the name {name}", {"name": twice[0]})
    return workers


Seconds = Annotated[float, BeforeValidator(_parse_seconds)]
KeepAlive = Annotated[float | None, BeforeValidator(_parse_keep_alive_key)]
SizeBytes = Annotated[int, BeforeValidator(parse_size)]
Memory = Annotated[str, BeforeValidator(_check_memory)]
ModelNameText = Annotated[str, AfterValidator(_check_model_name)]
WorkerName = Annotated[str, AfterValidator(_check_worker_name)]
GpuId = Annotated[int | str, BeforeValidator(_check_gpu)]
Env = dict[
    Annotated[str, AfterValidator(_check_variable)], Annotated[str, AfterValidator(_check_variable_text)]
]
Engine = Literal["auto", "embedded", "ollama"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)


class WorkerDefaults(_Section):
    """What holds for every worker that does not say otherwise."""

    engine: Engine = "auto"
    """`auto` takes Ollama where its binary is found, else the embedded engine on a box without GPUs."""
    num_parallel: Annotated[int, Field(ge=1, le=256)] = 4
    """Slots per loaded model: answers it computes at once."""
    max_loaded_models: Annotated[int, Field(ge=1, le=64)] = 3
    """Models a worker holds at once."""
    max_queue: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """Requests that may wait for a worker; one more is refused with 503 and Retry-After."""
    context_length: Annotated[int, Field(ge=8)] = 4096
    """Tokens per slot (prompt and answer together)."""
    keep_alive: KeepAlive = 300.0
    """How long an idle model stays loaded: seconds, a text such as 5m, or -1 for ever."""
    memory: Memory = "auto"
    """What a worker's models may take: a size, a share such as 80%, or `auto` (all VRAM of its GPUs less
    a reserve of 1 GiB or 8 % each, whichever is more; 80 % of RAM shared among the CPU workers)."""
    env: Env = Field(default_factory=dict)
    """Further environment variables of the worker process."""


class WorkerConfig(_Section):
    """One worker of an explicit list. A limit that is left out is that of `worker_defaults`."""

    name: WorkerName
    """Names the worker in logs, `corral ps` and response headers."""
    gpus: tuple[GpuId, ...] = ()
    """GPUs by index (in PCI order, as nvidia-smi shows them) or UUID; none makes a CPU worker."""
    models: tuple[ModelNameText, ...] | None = None
    """Dedicates the worker: it serves these models and no others."""
    engine: Engine | None = None
    num_parallel: Annotated[int, Field(ge=1, le=256)] | None = None
    max_loaded_models: Annotated[int, Field(ge=1, le=64)] | None = None
    max_queue: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    context_length: Annotated[int, Field(ge=8)] | None = None
    keep_alive: KeepAlive = None
    """As in `worker_defaults`. None means -1 here; whether the key was given is in `model_fields_set`."""
    memory: Memory | None = None
    env: Env = Field(default_factory=dict)
    """Added to the `env` of `worker_defaults`; the same name here wins."""


Workers = Annotated[
    Annotated[Literal["auto"], Tag("auto")]
    | Annotated[tuple[WorkerConfig, ...], AfterValidator(_check_workers), Tag("list")],
    Discriminator(
        _kind_of_workers,
        custom_error_type="workers",
        custom_error_message="must be auto or a list of workers",
    ),
]


class GatewayConfig(_Section):
    """How the gateway treats requests."""

    request_timeout: Seconds = 600.0
    """A request that got no first byte of an answer within this time is given up, retries included."""
    connect_timeout: Seconds = 5.0
    """For connecting to a worker."""
    load_timeout: Seconds = 300.0
    """For loading a model; then the load has failed."""
    idle_timeout: Seconds = 300.0
    """Between two chunks of an answer; then the worker is taken for hung."""
    max_body_size: SizeBytes = 256 * 2**20
    """Larger request bodies are refused with 413 (images travel in bodies)."""


class LogConfig(_Section):
    """Where log lines go and how they look: always standard error, never a file."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"
    """`auto` is for people on a terminal and JSON otherwise."""


class Config(_Section):
    """The whole file."""

    auth: Literal["none"] | None = None
    """`none`, in so many words, lets everybody who reaches the port use it."""
    listen: Annotated[str, AfterValidator(_check_listen)] = "127.0.0.1:11434"
    """HOST:PORT for clients. Beyond loopback only together with `auth: none`."""
    runtime_dir: str | None = None
    """Directory for sockets. Default: $RUNTIME_DIRECTORY, else $XDG_RUNTIME_DIR/corral, else /run/corral for
    root and /tmp/corral-UID for others."""
    store: str | None = None
    """Ollama's model store, for Ollama workers. Default: $OLLAMA_MODELS, else ~/.ollama/models, else that of
    the installed service."""
    gguf_dir: str | None = None
    """Directory of GGUF files for the embedded engine. Default: Corral's own,
    $XDG_DATA_HOME/corral/models."""
    cpu_workers: Annotated[int, Field(ge=1, le=64)] = 2
    """How many workers `workers: auto` makes on a machine without GPUs; each gets cores of its own."""
    worker_defaults: WorkerDefaults = WorkerDefaults()
    workers: Workers = "auto"
    """`auto` is one worker per GPU, or `cpu_workers` without a GPU; else the list of workers."""
    gateway: GatewayConfig = GatewayConfig()
    log: LogConfig = LogConfig()

    @field_validator("listen")
    @classmethod
    def _only_where_it_is_safe(cls, listen: str, info: ValidationInfo) -> str:
        """Needs `auth` to be declared before `listen`; says nothing when `auth` itself is wrong."""
        host = listen.rpartition(":")[0]
        if info.data.get("auth", "none") is None and not _is_loopback(host):
            raise ValueError(
                f"{shown(listen)} is reachable from other machines and there are no keys: "
                "listen on 127.0.0.1, or write auth: none"
            )
        return listen
