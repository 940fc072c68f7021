"""Which engine a worker runs: what the file asks for against what this machine and this Corral have."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from supervisor.contract.config import Engine
from supervisor.core.machine import Machine

_INSTALL: Final = "install Ollama (https://ollama.com/download)"


class NoEngineError(ValueError):
    """No engine can run the worker; the text says why and what to do."""


def choose_engine(wanted: Engine, *, has_gpus: bool, machine: Machine, engines: Collection[str]) -> str:
    """Return the name of the engine for a worker, one of `engines`.

    `auto` is Ollama where its binary is found, else the embedded engine for a worker without GPUs: its
    wheel computes on the CPU, so a worker with GPUs gets it only when the file says so.

    Raises:
        NoEngineError: the engine is not there, or `auto` finds none.
    """
    if wanted == "auto":
        return _choose_for(machine, has_gpus=has_gpus, engines=engines)
    if wanted not in engines:
        raise NoEngineError(f"this Corral has no engine {wanted}: write one of {', '.join(sorted(engines))}")
    if wanted == "ollama" and machine.ollama_path is None:
        raise NoEngineError(
            f"no ollama binary is in PATH: {_INSTALL}, or write engine: embedded to compute on the CPU"
        )
    return wanted


def _choose_for(machine: Machine, *, has_gpus: bool, engines: Collection[str]) -> str:
    if machine.ollama_path is not None and "ollama" in engines:
        return "ollama"
    if has_gpus:
        raise NoEngineError(_no_engine_for_gpus(engines))
    if "embedded" not in engines:
        raise NoEngineError(f"auto finds no engine: {_INSTALL}")
    return "embedded"


def _no_engine_for_gpus(engines: Collection[str]) -> str:
    why, remedy = "this Corral has no engine ollama", ""
    if "ollama" in engines:
        why, remedy = "no ollama binary is in PATH", f"{_INSTALL}, or "
    return (
        f"auto finds no engine for GPUs ({why}, and the embedded engine's wheel computes on the CPU): "
        f"{remedy}write engine: embedded, or workers without gpus"
    )
