"""How the supervisor starts an embedded worker: argv and environment. Knows nothing of requests."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Final

from supervisor.core.spec import WorkerSpec
from supervisor.engines.engine import Launch

GGUF_DIR_VARIABLE: Final = "CORRAL_GGUF_DIR"
STORE_VARIABLE: Final = "OLLAMA_MODELS"
"""Ollama's own name for it; the store comes to be with the first model that is pulled or created."""
MEMORY_VARIABLE: Final = "CORRAL_MEMORY_BYTES"


class EmbeddedEngine:
    """llama.cpp from a wheel behind the Ollama API; computes on the CPU."""

    name = "embedded"
    ready_path = "/api/version"

    def missing(self) -> str | None:
        """Return the remedy when the wheel is not installed."""
        if find_spec("xllamacpp") is None:
            return "the embedded engine needs xllamacpp: pip install 'corral[embedded]'"
        return None

    def launch(self, spec: WorkerSpec, *, port: int) -> Launch:
        """Return the worker's command; its limits have the names that Ollama gives them."""
        return Launch(
            argv=(sys.executable, "-m", "supervisor.engines.embedded"),
            env={
                "OLLAMA_HOST": f"127.0.0.1:{port}",
                "OLLAMA_NUM_PARALLEL": str(spec.num_parallel),
                "OLLAMA_MAX_LOADED_MODELS": str(spec.max_loaded_models),
                "OLLAMA_MAX_QUEUE": str(spec.max_queue),
                "OLLAMA_CONTEXT_LENGTH": str(spec.context_length),
                "OLLAMA_KEEP_ALIVE": "-1s",
                GGUF_DIR_VARIABLE: spec.gguf_dir,
                STORE_VARIABLE: spec.store,
                MEMORY_VARIABLE: str(spec.memory_bytes),
            },
        )
