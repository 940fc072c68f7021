"""The worker's environment, checked: limits under Ollama's names. Pure.

A variable that is missing has the default given here; one that is wrong is an error that names it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from supervisor.contract.durations import InvalidDurationError, parse_keep_alive
from supervisor.engines.embedded.engine import GGUF_DIR_VARIABLE, MEMORY_VARIABLE, STORE_VARIABLE

_HIGHEST_PORT: Final = 65535
_SHORTEST_CONTEXT: Final = 8
_OWN_STORE: Final = "store"
"""In the directory of GGUF files, for models that are pulled or created where no store is given."""


class SettingsError(ValueError):
    """A variable that says nothing usable; the text names it and what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the worker listens and what it may take."""

    host: str
    port: int
    num_parallel: int
    max_loaded_models: int
    max_queue: int
    context_length: int
    """Tokens per slot."""
    keep_alive_s: float
    """Seconds; `inf` for ever."""
    gguf_dir: str
    """Directory of GGUF files; empty for none."""
    store: str
    """Directory of an Ollama store, where pulled and created models go."""
    memory_bytes: int


def parse_settings(env: Mapping[str, str], *, memory_bytes: int) -> Settings:
    """Return the settings; `memory_bytes` is the default for what models may take.

    Raises:
        SettingsError: a variable is wrong, or neither CORRAL_GGUF_DIR nor OLLAMA_MODELS is given.
    """
    host, port = _address(env.get("OLLAMA_HOST") or "127.0.0.1:11434")
    gguf_dir, store = env.get(GGUF_DIR_VARIABLE, ""), env.get(STORE_VARIABLE, "")
    if not gguf_dir and not store:
        raise SettingsError(
            f"{GGUF_DIR_VARIABLE} is not set: give the directory that holds the .gguf files, "
            f"or an Ollama store as {STORE_VARIABLE}"
        )
    return Settings(
        host=host,
        port=port,
        num_parallel=_number(env, "OLLAMA_NUM_PARALLEL", default=1),
        max_loaded_models=_number(env, "OLLAMA_MAX_LOADED_MODELS", default=3),
        max_queue=_number(env, "OLLAMA_MAX_QUEUE", default=512),
        context_length=_number(env, "OLLAMA_CONTEXT_LENGTH", default=4096, least=_SHORTEST_CONTEXT),
        keep_alive_s=_keep_alive(env.get("OLLAMA_KEEP_ALIVE") or "5m"),
        gguf_dir=gguf_dir,
        store=store or f"{gguf_dir}/{_OWN_STORE}",
        memory_bytes=_number(env, MEMORY_VARIABLE, default=memory_bytes),
    )


def _number(env: Mapping[str, str], name: str, *, default: int, least: int = 1) -> int:
    text = env.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise SettingsError(f"{name}={text!r} must be a whole number of at least {least}")
    return int(text)


def _keep_alive(text: str) -> float:
    """Ollama takes a bare number of seconds here, unlike in a request."""
    try:
        seconds = parse_keep_alive(float(text) if _is_number(text) else text)
    except InvalidDurationError as error:
        raise SettingsError(
            f"OLLAMA_KEEP_ALIVE={text!r} must be a duration such as 5m, or -1: {error}"
        ) from error
    return math.inf if seconds is None else seconds


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdigit()


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.removeprefix("http://").rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) <= _HIGHEST_PORT:
        raise SettingsError(f"OLLAMA_HOST={text!r} must be HOST:PORT, for example 127.0.0.1:11500")
    return host.strip("[]") or "127.0.0.1", int(port)
