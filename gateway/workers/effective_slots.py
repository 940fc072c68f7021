"""How many answers Ollama computes at once with a model, whatever OLLAMA_NUM_PARALLEL says.

Decides by what /api/ps and /api/show tell of the model. A slot too many would be a request that waits inside
the worker, unseen; so what one version or another runs serially is serial here.

Source: server/sched.go of Ollama 0.13 to 0.33 (`load`), where the list has only grown.
"""

from __future__ import annotations

from typing import Final

SERIAL_FAMILIES: Final = frozenset(
    {
        "mllama",
        "qwen3vl",
        "qwen3vlmoe",
        "qwen35",
        "qwen35moe",
        "qwen3next",
        "lfm2",
        "lfm2moe",
        "nemotron_h",
        "nemotron_h_moe",
        "nemotron_h_omni",
    }
)
"""Architectures (`details.family`) whose caches do not keep several sequences apart."""
_SERIAL_FORMATS: Final = frozenset({"safetensors"})
"""Files (`details.format`) that another runner computes, which takes one request after the other."""


def effective_slots(asked: int, *, family: str, file_format: str, completes: bool) -> int:
    """Return the slots of a resident model on an Ollama that was started with `asked`.

    `completes` says whether it answers prompts; a model that only embeds has one slot.
    """
    serial = not completes or family in SERIAL_FAMILIES or file_format in _SERIAL_FORMATS
    return 1 if serial else asked
