"""What of an Ollama that somebody runs already goes into a new file of Corral, and what does not, and why.

Decides by variables alone: which key says the same, and whether Corral can take the value. Must not know
where the variables were read, nor how the file is written. Nothing is left out without a remark.

Source of the variables' meaning: Ollama's envconfig/config.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from math import isfinite
from typing import Final

from pydantic import BaseModel, ValidationError

from supervisor.contract.config import Config, GatewayConfig, WorkerDefaults
from supervisor.contract.durations import InvalidDurationError, parse_go_duration
from supervisor.contract.values import check_listen, is_loopback

Value = str | int | float | bool

_DEFAULT_PORT: Final = {"http": "80", "https": "443"}
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_QUANTIZED: Final = frozenset({"q8_0", "q4_0"})
_SECTIONS: Final[Mapping[str, type[BaseModel]]] = {
    "": Config,
    "gateway": GatewayConfig,
    "worker_defaults": WorkerDefaults,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable as it was found."""

    variable: str
    value: str
    source: str
    """For people: `the environment` or `ollama.service`."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What becomes of a variable: a key with its value, or a remark why there is none."""

    setting: Setting
    key: str = ""
    """As `corral check` writes it: `worker_defaults.num_parallel`; empty when it is not taken."""
    value: Value = ""
    remark: str = ""


class _NotTakenError(ValueError):
    """A value that Corral has no use for; the text says why."""


def take_over(
    environment: Mapping[str, str], service: Mapping[str, str], *, has_ollama: bool
) -> tuple[Taken, ...]:
    """Return what becomes of each variable that steers Ollama, by name; the environment wins.

    `has_ollama` tells whether there will be Ollama workers at all.
    """
    found: dict[str, Setting] = {}
    for source, variables in (("ollama.service", service), ("the environment", environment)):
        for name, value in variables.items():
            if _concerns_ollama(name) and value:
                found[name] = Setting(name, value, source)
    taken = [_take(setting, has_ollama=has_ollama) for _, setting in sorted(found.items())]
    return tuple(_without_lone_cache(taken))


def _concerns_ollama(name: str) -> bool:
    return name.startswith("OLLAMA_") or name in _OTHERS


def _take(setting: Setting, *, has_ollama: bool) -> Taken:
    name = setting.variable
    if name in _LEFT_OUT:
        return Taken(setting, remark=_LEFT_OUT[name])
    if name in _ONLY_OLLAMA and not has_ollama:
        return Taken(setting, remark="it is for Ollama, and no ollama binary is in PATH")
    key, read = _KEYS.get(name, (f"worker_defaults.env.{name}", str))
    try:
        value = read(setting.value)
        _check(key, value)
    except _NotTakenError as error:
        return Taken(setting, remark=str(error))
    return Taken(setting, key, value)


def _check(key: str, value: Value) -> None:
    """Ask the schema whether the file may say so."""
    section, _, name = key.rpartition(".")
    tree: dict[str, object] = {name: value}
    if section == "worker_defaults.env":
        section, tree = "worker_defaults", {"env": tree}
    try:
        str(value).encode()
        _SECTIONS[section].model_validate(tree)
    except UnicodeEncodeError as error:
        raise _NotTakenError("it is no UTF-8") from error
    except ValidationError as error:
        raise _NotTakenError(f"Corral's {key} does not take it: see configs/corral.yaml") from error


def _without_lone_cache(taken: Sequence[Taken]) -> list[Taken]:
    """Leave out a quantized cache without flash attention, as Ollama did."""
    values = {one.key: one.value for one in taken}
    flash = values.get("worker_defaults.flash_attention") is True
    remark = "Ollama ignored it: it needs OLLAMA_FLASH_ATTENTION=1"
    return [
        Taken(one.setting, remark=remark)
        if one.key == "worker_defaults.kv_cache_type" and one.value in _QUANTIZED and not flash
        else one
        for one in taken
    ]


def listen_address(host: str) -> str:
    """Return HOST:PORT of what OLLAMA_HOST may say: a host, a port, both, with or without a scheme.

    Raises:
        ValueError: there is no such address.
    """
    scheme, found, rest = host.strip().partition("://")
    name = (rest if found else scheme).partition("/")[0]
    port = _DEFAULT_PORT.get(scheme, "11434") if found else "11434"
    bare = name.strip("[]")
    if not _is_ipv6(bare) and ":" in name:
        name, _, port = name.rpartition(":")
        bare = name.strip("[]")
    bare = bare or "0.0.0.0"  # noqa: S104 -- what Ollama makes of `:11434`
    return check_listen(f"[{bare}]:{port}" if _is_ipv6(bare) else f"{bare}:{port}")


def _is_ipv6(host: str) -> bool:
    try:
        return ip_address(host).version == 6  # noqa: PLR2004 -- the version
    except ValueError:
        return False


def _listen(text: str) -> str:
    try:
        address = listen_address(text)
    except ValueError as error:
        raise _NotTakenError(str(error)) from error
    if not is_loopback(address.rpartition(":")[0]):
        raise _NotTakenError(f"{address} is reachable from other machines: the file asks what you want")
    return address


def _path(text: str) -> str:
    """A file's paths are expanded as a shell would, so a dollar stands for itself when doubled."""
    return text.replace("$", "$$")


def _count(text: str) -> int:
    """0 leaves it to Ollama, which for Corral is to leave the key out."""
    try:
        count = int(text)
    except ValueError as error:
        raise _NotTakenError("it is no number, so Ollama ignored it too") from error
    if count == 0:
        raise _NotTakenError("0 leaves it to Ollama, and here to Corral's default")
    return count


def _keep_alive(text: str) -> Value:
    return -1 if _seconds(text) < 0 else _duration(text)


def _load_timeout(text: str) -> Value:
    if _seconds(text) <= 0:
        raise _NotTakenError("Corral gives up every load at some time: write gateway.load_timeout yourself")
    return _duration(text)


def _seconds(text: str) -> float:
    try:
        seconds = parse_go_duration(text)
    except InvalidDurationError:
        try:
            seconds = float(int(text))
        except (ValueError, OverflowError) as error:
            raise _NotTakenError("it is no duration, so Ollama ignored it too") from error
    if not isfinite(seconds):
        raise _NotTakenError("it is no duration")
    return seconds


def _duration(text: str) -> Value:
    """Return it as it was written: bare numbers are seconds in both."""
    return int(text) if text.lstrip("+-").isdigit() else text


def _switch(text: str) -> bool:
    """Anything that is no truth value turns it on, in Ollama too."""
    return text not in _FALSE


_KEYS: Final[Mapping[str, tuple[str, Callable[[str], Value]]]] = {
    "OLLAMA_CONTEXT_LENGTH": ("worker_defaults.context_length", _count),
    "OLLAMA_FLASH_ATTENTION": ("worker_defaults.flash_attention", _switch),
    "OLLAMA_HOST": ("listen", _listen),
    "OLLAMA_KEEP_ALIVE": ("worker_defaults.keep_alive", _keep_alive),
    "OLLAMA_KV_CACHE_TYPE": ("worker_defaults.kv_cache_type", str.lower),
    "OLLAMA_LOAD_TIMEOUT": ("gateway.load_timeout", _load_timeout),
    "OLLAMA_MAX_LOADED_MODELS": ("worker_defaults.max_loaded_models", _count),
    "OLLAMA_MAX_QUEUE": ("worker_defaults.max_queue", _count),
    "OLLAMA_MODELS": ("store", _path),
    "OLLAMA_NUM_PARALLEL": ("worker_defaults.num_parallel", _count),
}
"""The key that says the same, and how its value is read."""

_ONLY_OLLAMA: Final = frozenset({"OLLAMA_FLASH_ATTENTION", "OLLAMA_KV_CACHE_TYPE"})

_PINNED: Final = "Corral shows each worker its own GPUs: list `workers` to leave some out"
_LEFT_OUT: Final[Mapping[str, str]] = {
    "CUDA_VISIBLE_DEVICES": _PINNED,
    "HIP_VISIBLE_DEVICES": _PINNED,
    "OLLAMA_EDITOR": "it is for the ollama command, not for a server",
    "OLLAMA_NOHISTORY": "it is for the ollama command, not for a server",
    "OLLAMA_NOPRUNE": "Corral lets one worker prune the shared store and no other",
    "OLLAMA_ORIGINS": "Corral answers in place of the workers, which see no browser",
    "OLLAMA_SCHED_SPREAD": "give a worker several GPUs instead: gpus: [0, 1]",
    "OLLAMA_VULKAN": "it would show a worker the GPUs of the others",
    "ROCR_VISIBLE_DEVICES": _PINNED,
}
"""Why a variable is not taken over."""

_OTHERS: Final = frozenset(
    {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION", "ROCR_VISIBLE_DEVICES"}
)
"""Variables of other makers that a service for Ollama often sets."""
