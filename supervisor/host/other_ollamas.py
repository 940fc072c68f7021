"""Finds the Ollama servers on this machine that no Corral runs. Says nothing about what to do with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename
from typing import Final

from supervisor.core.pinning import MARKER

_PROC: Final = Path("/proc")
_UNIT: Final = "/ollama.service"
_DEFAULT_ADDRESS: Final = "127.0.0.1:11434"


@dataclass(frozen=True, slots=True)
class OtherOllama:
    """One `ollama serve`."""

    pid: int
    is_service: bool
    """systemd runs it as `ollama.service`, and would start it again."""
    address: str = ""
    """Where its clients reach it, as `OLLAMA_HOST` says it; empty where we may not see its environment."""


def find_other_ollamas() -> tuple[OtherOllama, ...]:
    """Return them by pid, as far as this process may look into others."""
    return tuple(OtherOllama(pid, _UNIT in _text(pid, "cgroup"), _address(pid)) for pid in sorted(_serving()))


def _serving() -> Iterator[int]:
    for process in _PROC.iterdir():
        if process.name.isdigit():
            pid = int(process.name)
            argv = _text(pid, "cmdline").split("\0")
            serves = basename(argv[0]) == "ollama" and argv[1:2] == ["serve"]
            if serves and not _is_of_a_corral(pid):
                yield pid


def _is_of_a_corral(pid: int) -> bool:
    return MARKER in _environ(pid)


def _address(pid: int) -> str:
    environ = _environ(pid)
    return (environ.get("OLLAMA_HOST") or _DEFAULT_ADDRESS) if environ else ""


def _environ(pid: int) -> dict[str, str]:
    """Return what it was started with; empty where that is not ours to see."""
    entries = (entry.partition("=") for entry in _text(pid, "environ").split("\0"))
    return {name: value for name, _, value in entries if name}


def _text(pid: int, name: str) -> str:
    try:
        return (_PROC / str(pid) / name).read_bytes().decode("utf-8", "replace")
    except OSError:  # ended meanwhile, or not ours to see
        return ""
