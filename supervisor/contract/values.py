"""The single values of the configuration file: sizes, durations, names, addresses.

Decides what one value may be; which key takes which is the schema's (`config.py`). Every refusal says what
to write instead.
"""

from __future__ import annotations

import json
import re
from ipaddress import ip_address
from math import isfinite
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from supervisor.contract.durations import InvalidDurationError, parse_go_duration, parse_keep_alive
from supervisor.contract.names import InvalidModelNameError, ModelName

_LISTEN: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):(?P<port>[0-9]{1,5})\Z")
_PERCENT: Final = re.compile(r"([0-9]{1,3})%\Z")
_SIZE: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)\Z")
GATEWAY_NAME: Final = "gateway"
"""What commands call the gateway; no worker can be called so."""
_WORKER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z")
_GPU_UUID: Final = re.compile(r"(GPU|MIG)-[0-9A-Za-z/-]+\Z")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_URL: Final = re.compile(r"https?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?/?\Z")
_ORIGIN: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://(\*|(\*\.)?[A-Za-z0-9_.-]+|\[[0-9a-fA-F:]+\])(:([0-9]{1,5}|\*))?\Z"
)
_CORES: Final = re.compile(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*\Z")
_MOST_SLOTS: Final = 256
_PORTS: Final = range(1, 65536)
"""Of TCP; 0 is for listening only, on any free one."""
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
_CORRALS_OWN: Final = {
    "OLLAMA_HOST": "each worker has a port of its own",
    "OLLAMA_NOPRUNE": "exactly one of the workers that share a store may prune it",
}
"""Variables that no key sets, and why they are nobody's to set."""
_SET_BY_KEY: Final = {
    "CUDA_DEVICE_ORDER": "gpus",
    "CUDA_VISIBLE_DEVICES": "gpus",
    "GGML_VK_VISIBLE_DEVICES": "gpus",
    "GPU_DEVICE_ORDINAL": "gpus",
    "HIP_VISIBLE_DEVICES": "gpus",
    "OLLAMA_CONTEXT_LENGTH": "context_length",
    "OLLAMA_FLASH_ATTENTION": "flash_attention",
    "OLLAMA_KEEP_ALIVE": "keep_alive",
    "OLLAMA_KV_CACHE_TYPE": "kv_cache_type",
    "OLLAMA_LOAD_TIMEOUT": "gateway.load_timeout",
    "OLLAMA_MAX_LOADED_MODELS": "max_loaded_models",
    "OLLAMA_MAX_QUEUE": "max_queue",
    "OLLAMA_MODELS": "store",
    "OLLAMA_NUM_PARALLEL": "num_parallel",
    "OLLAMA_VULKAN": "gpus",
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


def check_listen(value: str) -> str:
    """Return HOST:PORT as it is.

    Raises:
        ValueError: it is none.
    """
    match = _LISTEN.match(value)
    if match is None or int(match["port"]) not in range(_PORTS.stop):
        raise ValueError(f"{shown(value)} is no address: write HOST:PORT, for example 127.0.0.1:11434")
    return value


def _check_worker_name(value: str) -> str:
    if not _WORKER_NAME.match(value):
        raise ValueError(
            f"{shown(value)} is no name for a worker: write up to 32 lower-case letters, digits, - and _, "
            "a letter or digit first"
        )
    if value == GATEWAY_NAME:
        raise ValueError(
            f"{shown(value)} is what commands call the gateway itself: choose another name for the worker"
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
    if name in _CORRALS_OWN:
        raise ValueError(f"{name} is Corral's to set, because {_CORRALS_OWN[name]}: remove it")
    return name


def _check_variable_text(text: str) -> str:
    if "\0" in text:
        raise ValueError(f"{shown(text)} has a NUL in it, which no environment variable can hold: remove it")
    return text


def _check_path(value: str) -> str:
    if not value or "\0" in value:
        raise ValueError(f"{shown(value)} can be no directory's path: write one, or remove the key")
    return value


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _check_url(value: str) -> str:
    match = _URL.match(value)
    if match is None or int(match["port"] or 1) not in _PORTS:
        raise ValueError(f"{shown(value)} is no address of a worker: write http://HOST:PORT")
    return value.rstrip("/")


def _check_origin(value: str) -> str:
    if value != "*" and (not _ORIGIN.match(value) or value.count("*") > 1):
        raise ValueError(
            f"{shown(value)} is no origin of web pages: write SCHEME://HOST[:PORT] and nothing behind, "
            "such as https://chat.example.com, with at most one * for a host, its beginning or a port"
        )
    return value.lower()


def _check_slots(value: object) -> object:
    whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_SLOTS
    if value != "auto" and not whole:
        raise ValueError(f"must be auto or a number from 1 to {_MOST_SLOTS}, not {shown(value)}")
    return value


def parse_cores(text: str) -> tuple[int, ...]:
    """Return the cores of `0-3,8`, ascending and each once.

    Raises:
        ValueError: no list of cores.
    """
    if not _CORES.match(text):
        raise ValueError(f"{shown(text)} is no list of cores: write it as 0-3 or 0,2,4-7")
    cores: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        run = range(int(first), int(last or first) + 1)
        if not run:
            raise ValueError(f"{shown(text)} is no list of cores: {part} ends before it begins")
        cores.update(run)
    return tuple(sorted(cores))


def _check_cores(value: str) -> str:
    parse_cores(value)
    return value


# What an editor is told of each value; the functions above have the last word.

_DURATION: Final = r"^-?(0|([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|ms|s|m|h))+$"
_SIZE_TEXT: Final = r"[0-9]+(\.[0-9]+)? ?(B|[KMGT]iB|[kMGT]B)"


def _text(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


def _number_or_text(kind: str, least: int | None, pattern: str) -> WithJsonSchema:
    number: dict[str, Any] = {"type": kind} if least is None else {"type": kind, "minimum": least}
    return WithJsonSchema({"anyOf": [number, {"type": "string", "pattern": pattern}]})


Seconds = Annotated[float, BeforeValidator(_parse_seconds), _number_or_text("number", 0, _DURATION)]
KeepAlive = Annotated[
    float | None, BeforeValidator(_parse_keep_alive_key), _number_or_text("number", None, _DURATION)
]
SizeBytes = Annotated[int, BeforeValidator(parse_size), _number_or_text("integer", 1, f"^{_SIZE_TEXT}$")]
Memory = Annotated[str, BeforeValidator(_check_memory), _text(f"^(auto|[0-9]{{1,3}}%|{_SIZE_TEXT})$")]
ModelNameText = Annotated[str, AfterValidator(_check_model_name)]
Listen = Annotated[str, AfterValidator(check_listen), _text(r"^.+:[0-9]{1,5}$")]
Directory = Annotated[str, AfterValidator(_check_path), _text("^.+$")]
Origin = Annotated[str, AfterValidator(_check_origin), _text(r"^(\*|[a-z][a-z0-9+.-]*://[^/]+)$")]
WorkerUrl = Annotated[str, AfterValidator(_check_url), _text("^https?://[^/]+/?$")]
Slots = Annotated[
    int | Literal["auto"],
    BeforeValidator(_check_slots),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": _MOST_SLOTS}, {"const": "auto"}]}),
]
Cores = Annotated[str, AfterValidator(_check_cores), _text("^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$")]
WorkerName = Annotated[
    str, AfterValidator(_check_worker_name), _text("^(?!gateway$)[a-z0-9][a-z0-9_-]{0,31}$")
]
GpuId = Annotated[int | str, BeforeValidator(_check_gpu), _number_or_text("integer", 0, "^(GPU|MIG)-.+$")]
Env = dict[
    Annotated[str, AfterValidator(_check_variable)], Annotated[str, AfterValidator(_check_variable_text)]
]
