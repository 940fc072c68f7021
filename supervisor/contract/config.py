"""The schema of Corral's one YAML file: every key, its type, its default and what it means.

Decides what a valid file is. Knows nothing of YAML, of the machine it runs on or of the environment:
defaults that depend on those are None here and are filled in where the machine is known.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from supervisor.contract.durations import InvalidDurationError, parse_go_duration, parse_keep_alive
from supervisor.contract.names import InvalidModelNameError, ModelName

_LOOPBACK: Final = re.compile(r"(127(\.\d{1,3}){3}|localhost|\[::1\])\Z")
_LISTEN: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):(?P<port>\d{1,5})\Z")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)\Z")
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


def parse_size(value: object) -> int:
    """Return the bytes of `20GiB`, `512 MB` or a plain number.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is no size: write it as 20GiB, 512MiB or a number of bytes")
    return int(float(match[1]) * _UNIT_BYTES[match[2]])


def _parse_seconds(value: object) -> float:
    """Take a number of seconds or a text such as `30s` or `5m`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is no duration: write seconds or a text such as 30s or 5m")
    try:
        seconds = parse_go_duration(value) if isinstance(value, str) else float(value)
    except InvalidDurationError as error:
        raise ValueError(f"{error}; write seconds or a text such as 30s or 5m") from error
    if seconds <= 0:
        raise ValueError(f"{value!r} must be longer than nothing")
    return seconds


def _parse_keep_alive_key(value: object) -> float | None:
    try:
        return parse_keep_alive(value)
    except InvalidDurationError as error:
        raise ValueError(f"{error}; write seconds, a text such as 5m, or -1 for ever") from error


def _check_model_name(value: str) -> str:
    try:
        ModelName.parse(value)
    except InvalidModelNameError as error:
        raise ValueError(str(error)) from error
    return value


def _check_memory(value: str) -> str:
    percent = re.fullmatch(r"(\d{1,3})%", value)
    if percent is not None:
        if not 1 <= int(percent[1]) <= 100:  # noqa: PLR2004 -- a percentage
            raise ValueError(f"{value} is not between 1% and 100%")
    elif value != "auto":
        parse_size(value)
    return value


def _check_listen(value: str) -> str:
    match = _LISTEN.match(value)
    if match is None or int(match["port"]) > 65535:  # noqa: PLR2004 -- the highest TCP port
        raise ValueError(f"{value!r} is no address: write HOST:PORT, for example 127.0.0.1:11434")
    return value


Seconds = Annotated[float, BeforeValidator(_parse_seconds)]
KeepAlive = Annotated[float | None, BeforeValidator(_parse_keep_alive_key)]
SizeBytes = Annotated[int, BeforeValidator(parse_size)]
Memory = Annotated[str, AfterValidator(_check_memory)]
ModelNameText = Annotated[str, AfterValidator(_check_model_name)]
WorkerName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
GpuId = Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^(GPU|MIG)-[0-9A-Za-z-/]+$")]
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
    env: dict[str, str] = Field(default_factory=dict)
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
    env: dict[str, str] = Field(default_factory=dict)
    """Added to the `env` of `worker_defaults`; the same name here wins."""


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

    listen: Annotated[str, AfterValidator(_check_listen)] = "127.0.0.1:11434"
    """HOST:PORT for clients. Beyond loopback only together with `auth: none`."""
    auth: Literal["none"] | None = None
    """`none`, in so many words, lets everybody who reaches the port use it."""
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
    workers: Literal["auto"] | Annotated[tuple[WorkerConfig, ...], Field(min_length=1)] = "auto"
    """`auto` is one worker per GPU, or `cpu_workers` without a GPU; else the list of workers."""
    gateway: GatewayConfig = GatewayConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _only_what_is_safe(self) -> Config:
        host = self.listen.rpartition(":")[0]
        if self.auth is None and not _LOOPBACK.match(host):
            raise ValueError(
                f"listen: {self.listen} is reachable from other machines and there are no keys: "
                "listen on 127.0.0.1, or write auth: none"
            )
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Config:
        names = [] if self.workers == "auto" else [worker.name for worker in self.workers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"workers: the name {twice[0]!r} is given to two workers")
        return self
