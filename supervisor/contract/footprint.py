"""How much memory a loaded model takes: weights, KV cache and compute buffers.

Decides an estimate from a GGUF's header values; the truth is measured once the model is resident.
Used by the worker that must say no before it loads, and by the gateway that plans where it fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_KV_ELEMENT_BYTES: Final = 2
"""llama.cpp and Ollama keep the KV cache in f16 unless told otherwise."""

_COMPUTE_BYTES_PER_EMBEDDING: Final = 512 * 4 * 20
"""Rows of one 512-token batch (Ollama's) in f32. Measured with llama.cpp on CPU after a prompt that fills
the context: 36 to 44 KiB per component at widths 256 and 1024. The embedded engine's batches are smaller."""

_ONE_GLOBAL_LAYER_IN: Final = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "cohere2": 4, "exaone4": 4}
"""Of the architectures with a sliding window: in how many layers one sees the whole context. Source:
llama.cpp's set_swa_pattern; others are counted as if every second one did."""

_PROCESS_BYTES: Final = 18 * 2**20
"""The runner process itself, measured as the PSS of one with a model of 2 MB."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes by what they hold."""

    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int
    """Buffers of one batch, and the process itself."""

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes


def estimate(
    *, size_bytes: int, model_info: Mapping[str, object], context_length: int, slots: int
) -> Footprint:
    """Return what a model will take with `slots` sequences of `context_length` tokens each.

    `model_info` holds the GGUF header's values by their keys, as /api/show gives them. Values that
    are missing count as nothing, so that an unknown architecture is estimated by its weights.
    """
    arch = str(model_info.get("general.architecture", ""))

    def number(key: str) -> int:
        value = model_info.get(f"{arch}.{key}")
        if isinstance(value, (list, tuple)):  # per-layer head counts: the widest layer bounds them
            value = max((v for v in value if isinstance(v, int)), default=0)
        return int(value) if isinstance(value, (int, float)) else 0

    embedding, heads = number("embedding_length"), number("attention.head_count")
    head_size = number("attention.key_length") or (embedding // heads if heads else 0)
    kv_heads = number("attention.head_count_kv") or heads
    layer_tokens = _layer_tokens(
        arch, number("block_count"), number("attention.sliding_window"), context_length
    )
    kv = 2 * kv_heads * head_size * _KV_ELEMENT_BYTES * layer_tokens * slots
    return Footprint(size_bytes, kv, embedding * _COMPUTE_BYTES_PER_EMBEDDING + _PROCESS_BYTES)


def _layer_tokens(arch: str, layers: int, window: int, context_length: int) -> int:
    """Return the tokens that one sequence's cache holds, added up over the layers."""
    if not 0 < window < context_length:
        return layers * context_length
    whole = -(-layers // _ONE_GLOBAL_LAYER_IN.get(arch, 2))
    return whole * context_length + (layers - whole) * window
