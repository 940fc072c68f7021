"""The engine `ollama`: the command `ollama serve`, one process a worker, with every limit set by Corral.

Decides the command, its environment and which versions will do. Nothing is left to a default that Ollama
derives from the machine: such defaults changed between versions, and a worker must not know the other GPUs.
Must not know how a process is started, nor what its models are.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from math import ceil
from posixpath import dirname
from typing import Final

from supervisor.core.spec import WorkerSpec
from supervisor.engines.engine import Launch
from supervisor.host import own_cores

Version = tuple[int, int, int]

MINIMUM: Final[Version] = (0, 10, 0)
"""The first release whose /api/ps tells the `context_length` of a loaded model, and whose slots are what
OLLAMA_NUM_PARALLEL says and not a guess by free memory. OLLAMA_CONTEXT_LENGTH (0.5.13) and the
`done_reason` of loads and unloads are older."""
BUILT_FROM_SOURCE: Final[Version] = (0, 0, 0)
"""What a binary says of itself that is no release; whoever built it knows how old it is."""

_CLIENT_VERSION: Final = re.compile(r"(?:client version|ollama version) is v?(\d+)\.(\d+)\.(\d+)")
_NOBODY: Final = "127.0.0.1:1"
"""`ollama --version` asks the server there for its version first: nobody must answer."""
_UPGRADE: Final = "upgrade it (https://ollama.com/download), or write engine: embedded to compute on the CPU"
_VERSION_TIMEOUT_S: Final = 20.0


def _in_path() -> str | None:
    return shutil.which("ollama")


class OllamaEngine:
    """A real Ollama, of at least version `MINIMUM`."""

    name = "ollama"
    ready_path = "/api/version"
    """The port accepts and the log says `Listening on` before this answers, so neither is a sign."""

    def __init__(self, find_binary: Callable[[], str | None] = _in_path) -> None:
        self._find_binary = find_binary

    def missing(self) -> str | None:
        """Return the remedy when there is no binary, or one that is too old."""
        binary = self._find_binary()
        if binary is None:
            return "no ollama binary is in PATH: install Ollama (https://ollama.com/download)"
        try:
            said = _ask_version(binary)
        except (OSError, subprocess.SubprocessError) as error:
            return f"{binary} cannot be run ({error}): reinstall Ollama (https://ollama.com/download)"
        return too_old(binary, said)

    def launch(self, spec: WorkerSpec, *, port: int) -> Launch:
        """Return `ollama serve` with the limits of `spec`."""
        home = os.environ.get("HOME") or dirname(spec.store)
        counts_cores = (sys.executable, "-I", "-S", own_cores.__file__) if spec.cpu_cores else ()
        return Launch(
            argv=(*counts_cores, self._find_binary() or "ollama", "serve"),
            env={**_limits(spec), **_surroundings(spec), "OLLAMA_HOST": f"127.0.0.1:{port}", "HOME": home},
        )


def too_old(binary: str, said: str) -> str | None:
    """Return why a binary that says this of its version will not do, with the remedy, or None."""
    version = parse_version(said)
    if version is None:
        return f"{binary} does not tell its version ({said.strip()[:80]!r}): {_UPGRADE}"
    if version in (BUILT_FROM_SOURCE, max(version, MINIMUM)):
        return None
    return (
        f"{binary} is version {_dotted(version)}, and Corral needs {_dotted(MINIMUM)} or later, which tells "
        f"the context length of loaded models: {_UPGRADE}"
    )


def parse_version(said: str) -> Version | None:
    """Return the version in the output of `ollama --version`, or None; the binary's before a server's."""
    found = _CLIENT_VERSION.findall("\n".join(sorted(said.splitlines(), key=_is_of_server)))
    if not found:
        return None
    major, minor, patch = found[0]
    return int(major), int(minor), int(patch)


def _is_of_server(line: str) -> bool:
    return "client version" not in line


def _ask_version(binary: str) -> str:
    environ = {"HOME": "/", **os.environ, "OLLAMA_HOST": _NOBODY}  # without a HOME it panics
    answer = subprocess.run(
        [binary, "--version"],
        env=environ,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_VERSION_TIMEOUT_S,
        check=False,
    )
    return answer.stdout + answer.stderr


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _limits(spec: WorkerSpec) -> dict[str, str]:
    """Return the limits of the file. A queue of 0 would refuse every load, so the schema begins at 1."""
    limits = {
        "OLLAMA_NUM_PARALLEL": str(spec.num_parallel),
        "OLLAMA_MAX_LOADED_MODELS": str(spec.max_loaded_models),
        "OLLAMA_MAX_QUEUE": str(spec.max_queue),
        "OLLAMA_CONTEXT_LENGTH": str(spec.context_length),
        "OLLAMA_KEEP_ALIVE": "-1s",  # for ever: the gateway unloads
        "OLLAMA_LOAD_TIMEOUT": f"{ceil(spec.load_timeout_s)}s",
    }
    return limits | _attention(spec)


def _attention(spec: WorkerSpec) -> dict[str, str]:
    """Return what the file says of attention and its cache; what it does not say is left to Ollama.

    A cache that is quantised needs flash attention in so many words: without it Ollama keeps f16 for the
    models of its llama.cpp engine and only logs a warning.
    """
    quantised = spec.kv_cache_type not in (None, "f16")
    wanted = quantised or None if spec.flash_attention is None else spec.flash_attention
    attention = {} if wanted is None else {"OLLAMA_FLASH_ATTENTION": "1" if wanted else "0"}
    cache = {} if spec.kv_cache_type is None else {"OLLAMA_KV_CACHE_TYPE": spec.kv_cache_type}
    return attention | cache


def _surroundings(spec: WorkerSpec) -> dict[str, str]:
    """Return what a worker sees and may touch, beside the devices it is pinned to."""
    return {
        "OLLAMA_MODELS": spec.store,
        "OLLAMA_NOPRUNE": "0" if spec.prunes else "1",  # there are no locks in a store
        "OLLAMA_NO_CLOUD": "1",  # a request must not leave the machine because of a model's name
        "GIN_MODE": "release",  # else builds from source print their routes
        "OLLAMA_VULKAN": "0",  # it would find GPUs that CUDA_VISIBLE_DEVICES hides
    }
