"""Vectors of texts: on a runner, cut to the context where that is asked for, and normalised.

The texts of one request are computed one after the other on its one slot, so that a request never
computes more at once than it was granted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.engines.embedded.failures import BAD_REQUEST, INPUT_TOO_LONG, ApiError
from supervisor.engines.embedded.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Embedded:
    """One text's vector, as the model gives it, and what it cost."""

    vector: tuple[float, ...]
    tokens: int


async def embed(upstream: Upstream, text: str, *, limit: int, truncate: bool) -> Embedded:
    """Return the vector of `text`, at most `limit` tokens of it.

    Raises:
        ApiError: the text is too long and must not be cut, or the model embeds nothing.
    """
    tokens = await _tokens(upstream, text, special=True)
    if len(tokens) > limit:
        if not truncate:
            raise ApiError(BAD_REQUEST, INPUT_TOO_LONG)
        tokens = shortened(tokens, await _tokens(upstream, text, special=False), limit)
    body = {"input": [list(tokens)] if tokens else text, "embd_normalize": -1}
    answer = await upstream.call("/v1/embeddings", body)
    return Embedded(tuple(answer["data"][0]["embedding"]), answer["usage"]["prompt_tokens"])


def shortened(tokens: Sequence[int], bare: Sequence[int], limit: int) -> tuple[int, ...]:
    """Return at most `limit` tokens: the special ones around the text, and the text's first."""
    special = len(tokens) - len(bare)
    before = next((n for n in range(special + 1) if list(tokens[n : n + len(bare)]) == list(bare)), special)
    after = tokens[before + len(bare) :]
    return (*tokens[:before], *bare[: max(0, limit - special)], *after)


def normalised(vector: Sequence[float]) -> list[float]:
    """Return the vector with length 1.

    Raises:
        ApiError: it holds values that are no numbers.
    """
    if not all(map(math.isfinite, vector)):
        raise ApiError(BAD_REQUEST, "embedding contains NaN or Inf values")
    length = max(math.sqrt(sum(value * value for value in vector)), 1e-12)
    return [value / length for value in vector]


async def _tokens(upstream: Upstream, text: str, *, special: bool) -> tuple[int, ...]:
    body = {"content": text, "add_special": special, "parse_special": True}
    return tuple((await upstream.call("/tokenize", body))["tokens"])
