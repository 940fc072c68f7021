from __future__ import annotations

import pytest

from supervisor.contract.footprint import estimate

LLAMA = {
    "general.architecture": "llama",
    "llama.block_count": 32,
    "llama.embedding_length": 4096,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
}


def kv_bytes(info: dict[str, object], context_length: int, slots: int = 1) -> int:
    """Return the estimate of the cache alone."""
    return estimate(size_bytes=0, model_info=info, context_length=context_length, slots=slots).kv_cache_bytes


def test_cache_of_a_well_known_model_is_the_well_known_figure() -> None:
    """An 8B llama keeps 128 KiB a token in f16: half a GiB for 4096 tokens."""
    assert kv_bytes(LLAMA, 4096) == 2**29
    assert kv_bytes(LLAMA, 4096, slots=4) == 2**31


def test_sliding_window_bounds_the_cache_of_most_layers() -> None:
    """Of gemma3's layers one in six sees everything, the others a window."""
    gemma = {
        "general.architecture": "gemma3",
        "gemma3.block_count": 12,
        "gemma3.embedding_length": 1024,
        "gemma3.attention.head_count": 4,
        "gemma3.attention.head_count_kv": 1,
        "gemma3.attention.key_length": 256,
        "gemma3.attention.sliding_window": 512,
    }
    one_token_in_one_layer = 2 * 256 * 2
    assert kv_bytes(gemma, 8192) == one_token_in_one_layer * (2 * 8192 + 10 * 512)
    assert kv_bytes(gemma, 256) == one_token_in_one_layer * 12 * 256


@pytest.mark.parametrize("info", [{}, {"general.architecture": "new"}])
def test_unknown_architecture_is_estimated_by_its_weights(info: dict[str, object]) -> None:
    """What the header does not tell counts as nothing."""
    footprint = estimate(size_bytes=1000, model_info=info, context_length=4096, slots=4)
    assert (footprint.weights_bytes, footprint.kv_cache_bytes) == (1000, 0)
