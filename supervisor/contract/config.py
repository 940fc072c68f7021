"""The schema of Corral's one YAML file: every key, its type, its default and what it means.

Decides which keys there are; what a single value may be is `values.py`'s. Knows nothing of YAML, of the
machine it runs on or of the environment: defaults that depend on those are None here and are filled in
where the machine is known.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from supervisor.contract.values import (
    Cores,
    Directory,
    Env,
    GpuId,
    KeepAlive,
    Listen,
    Memory,
    ModelNameText,
    Origin,
    Seconds,
    SizeBytes,
    Slots,
    WorkerName,
    WorkerUrl,
    is_loopback,
    shown,
)

REPEATED_NAME: Final = "repeated_name"
"""Type of the pydantic error for two workers of one name."""


def _kind_of_workers(value: object) -> str | None:
    if isinstance(value, (list, tuple)):
        return "list"
    return "auto" if value == "auto" else None


def _check_workers(workers: tuple[WorkerConfig, ...]) -> tuple[WorkerConfig, ...]:
    names = [worker.name for worker in workers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PydanticCustomError(REPEATED_NAME, "two workers have the name {name}", {"name": twice[0]})
    return workers


Engine = Literal["auto", "embedded", "ollama"]


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class WorkerDefaults(_Section):
    """What holds for every worker that does not say otherwise."""

    engine: Engine = "auto"
    """`auto` takes Ollama where its binary is found, else the embedded engine on a box without GPUs."""
    num_parallel: Slots = "auto"
    """Slots per loaded model: answers it computes at once. `auto` is 4, or 1 where memory is short."""
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
    flash_attention: bool | None = None
    """For Ollama workers: on or off; null leaves it to Ollama."""
    kv_cache_type: Literal["f16", "q8_0", "q4_0"] | None = None
    """For Ollama workers: how the context's cache is kept; null leaves it to Ollama (f16)."""
    env: Env = Field(default_factory=dict)
    """Further environment variables of the worker process."""


class WorkerConfig(_Section):
    """One worker of an explicit list. A limit that is left out is that of `worker_defaults`."""

    name: WorkerName
    """Names the worker in logs, `corral ps` and response headers."""
    gpus: tuple[GpuId, ...] = ()
    """GPUs by index (in PCI order, as nvidia-smi shows them) or UUID; none makes a CPU worker."""
    cores: Cores | None = None
    """For a CPU worker: the cores it is bound to, in the kernel's notation (`0-3,8`). Without it the CPU
    workers share evenly what the others leave."""
    models: tuple[ModelNameText, ...] | None = None
    """Dedicates the worker: it serves these models and no others."""
    engine: Engine | None = None
    num_parallel: Slots | None = None
    max_loaded_models: Annotated[int, Field(ge=1, le=64)] | None = None
    max_queue: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    context_length: Annotated[int, Field(ge=8)] | None = None
    keep_alive: KeepAlive = None  # also what -1 is; whether the key was given is in `model_fields_set`
    memory: Memory | None = None
    flash_attention: bool | None = None
    kv_cache_type: Literal["f16", "q8_0", "q4_0"] | None = None
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


class ExternalWorker(_Section):
    """A worker that somebody else runs, in a container or on another machine, for this Corral alone."""

    name: WorkerName
    """Names the worker in logs, `corral ps` and response headers."""
    url: WorkerUrl
    """Where it answers, such as http://10.0.0.7:11434."""
    engine: Literal["ollama", "embedded"] = "ollama"
    """What it is."""
    num_parallel: Annotated[int, Field(ge=1, le=256)] = 1
    """Slots per loaded model, as it was started with (OLLAMA_NUM_PARALLEL)."""
    max_loaded_models: Annotated[int, Field(ge=1, le=64)] = 1
    """Models it may hold at once, as it was started with (OLLAMA_MAX_LOADED_MODELS)."""
    max_queue: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """Requests that may wait for it."""
    context_length: Annotated[int, Field(ge=8)] = 4096
    """Tokens per slot, as it was started with (OLLAMA_CONTEXT_LENGTH)."""
    keep_alive: KeepAlive = 300.0
    """How long an idle model stays loaded: seconds, a text such as 5m, or -1 for ever."""
    memory: SizeBytes
    """What its models may take together."""
    models: tuple[ModelNameText, ...] | None = None
    """It serves these models and no others; null is all that it has."""


class ModelConfig(_Section):
    """What is to hold for one model."""

    aliases: tuple[ModelNameText, ...] = ()
    """Other names for it, such as gpt-4o-mini."""
    pin: bool = False
    """It is loaded at start and never unloaded: as many replicas as `min_replicas`, at least one."""
    min_replicas: Annotated[int, Field(ge=0, le=64)] = 0
    """So many workers hold it, always."""
    max_replicas: Annotated[int, Field(ge=1, le=64)] | None = None
    """No more workers than this hold it at once; null is no bound."""
    context_length: Annotated[int, Field(ge=8)] | None = None
    """Tokens per slot; null is the worker's."""


class GatewayConfig(_Section):
    """How the gateway treats requests."""

    request_timeout: Seconds = 600.0
    """A request that got no first byte of an answer within this time is given up, retries included."""
    connect_timeout: Seconds = 5.0
    """For connecting to a worker."""
    load_timeout: Seconds = 300.0
    """For loading a model; then the load has failed."""
    first_byte_timeout: Seconds = 60.0
    """For the first byte of a streamed answer, beyond several times what prompt and model are known to take;
    then the request goes elsewhere and the worker is asked whether it hangs."""
    idle_timeout: Seconds = 300.0
    """Between two chunks of an answer, and for an answer that comes in one piece; then the worker is asked
    whether it hangs."""
    probe_interval: Seconds = 45.0
    """A worker that gave no sign of life for so long is asked for one, where it is idle for one token."""
    probe_timeout: Seconds = 30.0
    """For that token, beyond the time to load the model; a worker that lets two of them pass is replaced."""
    stop_timeout: Seconds = 20.0
    """So long answers under way may go on when Corral is stopped; then they are broken off."""
    finish_timeout: Seconds = 600.0
    """So long answers under way may go on in a gateway that was replaced."""
    failover: Literal["error", "continue"] = "error"
    """What becomes of a streamed answer whose worker dies. `error`: it ends with an error. `continue`:
    another worker goes on with it where that can be done exactly."""
    max_body_size: SizeBytes = 256 * 2**20
    """Larger request bodies are refused with 413 (images travel in bodies)."""
    body_memory: SizeBytes | None = None
    """What the bodies of all requests that wait or are answered may take together. Beyond that clients are
    not read on, for a minute at most; then they get a 503. Without it four times max_body_size."""
    cors_origins: tuple[Origin, ...] = ()
    """Web pages of these origins may call from a browser: https://chat.example.com, with one * for any host
    name, its beginning or any port (https://*.example.com, http://10.0.0.5:*), or * alone for all."""


class SchedulingConfig(_Section):
    """How requests, slots and loads are weighed against each other. The defaults are measured optima."""

    context: Literal["pin", "pass"] = "pin"
    """`pin` runs every model with the configured context, whatever a request asks for; `pass` gives a
    request whose options need another runner a variant of its own, which is loaded beside."""
    ttft_goal: Seconds = 10.0
    """Time to first token that is aimed at: requests that can still meet it go first."""
    savable_share: Annotated[float, Field(gt=0, le=1)] = 0.95
    """A request older than this share of the goal counts as late."""
    fifo_turn: Annotated[int, Field(ge=2)] = 16
    """Every so many grants of a model go to the oldest request, late or not."""
    patience: Seconds = 45.0
    """A request older than this goes before all younger ones of its tenant and model."""
    batch_hold: Seconds = 5.0
    """So long at most, and no longer than an answer takes, a model that is idle on a busy worker waits until
    its requests fill a batch."""
    late_weight: Annotated[float, Field(ge=0, le=1)] = 0.3
    """What a late request counts for, against one that can still meet the goal, where loads are decided."""
    load_lead: Annotated[float, Field(ge=0)] = 0.5
    """A request counts as late for a load that needs this share of the load's time longer than it has."""
    load_repay: Annotated[float, Field(ge=0)] = 2.0
    """A further replica is loaded when those who wait would wait longer than this many load times."""
    idle_repay: Annotated[float, Field(ge=0)] = 0.5
    """The same on a worker that computes nothing, where a load slows nobody."""
    replica_cost: Annotated[float, Field(ge=0)] = 1.5
    """What a further replica may cost, in seconds for each second of waiting that it removes."""
    min_tenure: Annotated[float, Field(ge=0)] = 0.5
    """An idle model stays at least this many of its load times."""
    drain_after: Seconds = 300.0
    """A busy model is drained only for one that waits longer than this, or than half of
    gateway.request_timeout if that is less."""
    keep_horizon: Seconds = 30.0
    """An idle model is kept by the chance that it is asked for within this time, or within six times what
    loading it takes if that is less."""
    eviction_weight: Annotated[float, Field(ge=0)] = 1.0
    """What an eviction costs, against seconds of waiting."""
    spare_replica: Annotated[float, Field(ge=0, le=1)] = 0.25
    """What a replica that its model does not need is worth, against one that it needs."""
    crowding: Annotated[float, Field(ge=0)] = 0.5
    """Seconds that each other active model on a worker counts for where a load is placed."""
    affinity_bound: Annotated[float, Field(ge=1)] = 1.25
    """A conversation returns to its worker while that has at most this times the mean load."""
    eviction_price: Annotated[float, Field(ge=0)] = 0.25
    """A load evicts only once those who wait for it have together waited for this many times what its
    victims are worth."""
    fair_share: Annotated[float, Field(ge=1)] = 2.0
    """A tenant is over its share when it was given and asks for more than this many times what the others
    do on average; then it is served after them."""
    tenant_cap: Annotated[float, Field(gt=0)] = 1.0
    """Where loads of a model that others use too are decided, the waiting requests of a tenant that is over
    its share count at most this many times the slots of a replica."""
    flood_drain_after: Seconds = 20.0
    """A replica that only a flood keeps busy is drained for a model that has waited so long."""
    load_retry: Seconds = 30.0
    """A model that a worker could not load is not tried there again before this time; doubles each time."""


class LogConfig(_Section):
    """Where log lines go and how they look: always standard error, never a file."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lines below this level are left out."""
    format: Literal["auto", "console", "json"] = "auto"
    """`auto` is for people on a terminal and JSON otherwise."""


class Config(_Section):
    """The whole file."""

    auth: Literal["none"] | None = None
    """`none`, in so many words, lets everybody who reaches the port use it."""
    listen: Listen = "127.0.0.1:11434"
    """HOST:PORT for clients. Beyond loopback only together with `auth: none`."""
    runtime_dir: Directory | None = None
    """Directory for sockets. Default: $RUNTIME_DIRECTORY, else $XDG_RUNTIME_DIR/corral, else /run/corral for
    root and /tmp/corral-UID for others."""
    store: Directory | None = None
    """The model store in Ollama's layout, for workers of either engine: pulled and created models go there.
    Default: $OLLAMA_MODELS, else ~/.ollama/models, else that of the installed service."""
    gguf_dir: Directory | None = None
    """Directory of GGUF files for the embedded engine; nothing is written there, but deleting such a model
    deletes its file. Default: Corral's own, $XDG_DATA_HOME/corral/models."""
    state_dir: Directory | None = None
    """Directory of what the gateway has learned (load times, speeds, how often a model is asked for), kept
    across restarts. Default: $STATE_DIRECTORY, else $XDG_STATE_HOME/corral, else /var/lib/corral for root and
    ~/.local/state/corral for others. Machines that share a home directory need one each."""
    drain_timeout: Seconds = 300.0
    """A worker that is to end (`corral drain` and `restart`, or a changed file) lets the answers it computes
    go on for this long; those that still run then are cut."""
    cpu_workers: Annotated[int, Field(ge=1, le=64)] = 2
    """How many workers `workers: auto` makes on a machine without GPUs; each gets cores of its own."""
    worker_defaults: WorkerDefaults = WorkerDefaults()
    workers: Workers = "auto"
    """`auto` is one worker per GPU, or `cpu_workers` without a GPU; else the list of workers, which may be
    empty beside `external` ones."""
    external: tuple[ExternalWorker, ...] = ()
    """Workers that somebody else runs."""
    models: dict[ModelNameText, ModelConfig] = Field(default_factory=dict)
    """What is to hold for single models."""
    gateway: GatewayConfig = GatewayConfig()
    scheduling: SchedulingConfig = SchedulingConfig()
    log: LogConfig = LogConfig()

    @field_validator("listen")
    @classmethod
    def _only_where_it_is_safe(cls, listen: str, info: ValidationInfo) -> str:
        """Needs `auth` to be declared before `listen`; says nothing when `auth` itself is wrong."""
        host = listen.rpartition(":")[0]
        if info.data.get("auth", "none") is None and not is_loopback(host):
            raise ValueError(
                f"{shown(listen)} is reachable from other machines and there are no keys: "
                "listen on 127.0.0.1, or write auth: none"
            )
        return listen
