"""Whether a loaded model is as it was ordered, and whether an engine's words mean that memory ran out. Pure.

An Ollama whose GPU is too small computes a part of the model on the CPU, or gives it a shorter context, and
says so only in /api/ps. Either makes every answer bad, so it is a fault: the scheduler unloads the model
there. On a CPU nothing can spill, and of somebody else's worker nobody knows what it computes on.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.scheduling.types import Resident

_GIB = 2**30
_OUT_OF_MEMORY: Final = re.compile(
    r"out[ _]?of[ _]?(device[ _]?)?memory|requires more (system )?memory|cudaMalloc failed|hipMalloc failed"
    r"|(failed|unable) to allocate .*(buffer|memory)|cannot allocate memory|insufficient memory",
    re.IGNORECASE,
)
"""Of llama.cpp's CUDA, ROCm, Vulkan and CPU backends, of Ollama and of the kernel."""


def is_out_of_memory(words: str) -> bool:
    """Whether an engine says that it, or a model's runner, got no more memory."""
    return _OUT_OF_MEMORY.search(words) is not None


def fault_of(resident: Resident, *, on_gpu: bool, ordered_context: int | None, may_spill: bool) -> str:
    """Return what is wrong, with both numbers, or nothing.

    Args:
        resident: As the worker tells it.
        on_gpu: Whether the worker computes on GPUs of this machine.
        ordered_context: Tokens per slot: what was ordered, or the model's trained context if that is less;
            None when that is not known.
        may_spill: Whether a part on the CPU was asked for.
    """
    if not on_gpu:
        return ""
    if resident.size_vram_bytes < resident.size_bytes and not may_spill:
        there, whole = resident.size_vram_bytes / _GIB, resident.size_bytes / _GIB
        return f"spilled to the CPU: {there:.1f} of {whole:.1f} GiB are on the GPU"
    if ordered_context is not None and 0 < resident.context_length < ordered_context:
        return f"context shrunk to {resident.context_length} tokens per slot; {ordered_context} were ordered"
    return ""
