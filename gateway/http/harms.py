"""Refuses what would crash the workers that have the model: the last look before a request waits for a slot.

Decides nothing about what is harmful (`surfaces/harms.py`) or to which engine (`workers/engines.py`); asks a
worker once for the size of a model's vocabulary, where a request brings tokens.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import aiohttp

from gateway.fleet.roster import Roster, Target
from gateway.scheduling.names import Variant
from gateway.surfaces.surface import BadRequestError, Facts
from gateway.workers.engines import dies_of_schemas

_ASK: Final = aiohttp.ClientTimeout(total=10)
_MOST_KEPT: Final = 1000


class Harms:
    """One gateway's."""

    def __init__(self, roster: Roster, session: aiohttp.ClientSession) -> None:
        """Share the roster, which somebody else keeps true, and the gateway's session."""
        self._roster = roster
        self._session = session
        self._vocabularies: dict[str, int] = {}
        """Tokens, by weights."""

    async def check(self, facts: Facts, target: Target) -> None:
        """Return if no worker is known to die of the request.

        Raises:
            BadRequestError: some worker that may get it would.
        """
        harm = facts.harm
        if harm.ollama and any(dies_of_schemas(s.engine) for s in self._roster.servers(target.variant)):
            raise BadRequestError(
                f"{harm.ollama}, of which Ollama is known to crash: change it, or leave the schema out"
            )
        if harm.highest_token < 0:
            return
        size = await self._vocabulary(target.variant)
        if size is not None and harm.highest_token >= size:
            raise BadRequestError(
                f"context holds {harm.highest_token}, but {target.name} has only {size} tokens: "
                "send what an answer of this model gave"
            )

    async def _vocabulary(self, variant: Variant) -> int | None:
        """Return how many tokens a model has; None when no worker tells."""
        if variant.digest not in self._vocabularies:
            size = await self._asked(variant)
            if size is None:
                return None
            if len(self._vocabularies) >= _MOST_KEPT:
                self._vocabularies.clear()
            self._vocabularies[variant.digest] = size
        return self._vocabularies[variant.digest]

    async def _asked(self, variant: Variant) -> int | None:
        holder = self._roster.holder(variant)
        if holder is None:
            return None
        status, row = holder
        question = json.dumps({"model": row.name, "verbose": True}).encode()
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(
                f"{status.base_url}/api/show", data=question, headers=headers, timeout=_ASK
            ) as response:
                answer = await response.read()
            shown = await asyncio.to_thread(json.loads, answer)  # megabytes for a large vocabulary
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None
        return _size_told(shown)


def _size_told(shown: Any) -> int | None:  # noqa: ANN401 -- any JSON
    info = shown.get("model_info") if isinstance(shown, dict) else None
    if not isinstance(info, dict):
        return None
    tokens = info.get("tokenizer.ggml.tokens")
    size = info.get(f"{info.get('general.architecture')}.vocab_size")
    return len(tokens) if isinstance(tokens, list) and tokens else size if isinstance(size, int) else None
