"""Texts, paths and marks of the Ollama API that worker and gateway must agree on to the letter.

Source: Ollama 0.24, as recorded from the real server.
"""

from __future__ import annotations

from typing import Final

OLLAMA_API_VERSION: Final = "0.24.0"
"""The version of the Ollama API that Corral speaks, and answers on /api/version."""

RUNNING_TEXT: Final = "Ollama is running"

SERVER_BUSY: Final = "server busy, please try again.  maximum pending requests exceeded"
"""The 503 of a full queue; the two spaces are Ollama's."""

RUNNER_TERMINATED: Final = "llama runner process has terminated"
"""The 500 of a request whose runner died under it, or just before it."""

MODEL_REQUIRED: Final = "model is required"

SLOTS_FIELD: Final = "num_parallel"
"""Extra field of a Corral worker's /api/ps rows: the slots that the resident model really has."""

WEIGHTS_FIELD: Final = "weights"
"""Extra field of a Corral worker's /api/tags and /api/ps rows: `sha256:…` of the weights, which are loaded
once for all names over them; empty while the file is still being hashed."""


def model_not_found(name: str) -> str:
    """The 404 of generate, chat and the /v1 routes."""
    return f"model '{name}' not found"


def model_not_found_try_pulling(name: str) -> str:
    """The 404 of /api/embed and /api/show style routes."""
    return f'model "{name}" not found, try pulling it first'
