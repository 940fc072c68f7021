"""What going from model to model costs when all fit: an agent's chain, one request after the other.

Each round asks an embedding model, then one that chats, then one that stands for a tool, and the last two
once more at once: the first answer of such a pair comes after another model's, the second after its own.
Times are a client's.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp

from scripts.figures.residency import count_loads
from scripts.figures.running import TWO_WORKERS, Running, running
from scripts.figures.streams import client, generate, request
from scripts.recipes import counting, embedding

ROUNDS: Final = 100
MODELS: Final = (embedding.NAME, "chat", "tool")
_TOKENS: Final = 8
_LOOK_S: Final = 0.05
_LOGGED_WITHIN_S: Final = 10.0


def write_chain(directory: Path) -> None:
    """Write the three models."""
    directory.mkdir(parents=True, exist_ok=True)
    embedding.embedding(directory / f"{embedding.NAME}.gguf")
    for name in MODELS[1:]:
        counting.counting(directory / f"{name}.gguf", name=name)


def chain(directory: Path, engine: str) -> dict[str, Any]:
    """Return loads and first tokens of a chain over the models of the directory; in milliseconds."""
    limits = {"num_parallel": 4, "max_loaded_models": len(MODELS), "keep_alive": -1}
    with running(directory, workers=TWO_WORKERS, engine=engine, **limits) as corral:
        figures = asyncio.run(_rounds(corral))
    figures["loads"] = count_loads((directory / "log").read_text().splitlines())
    return figures


async def _rounds(corral: Running) -> dict[str, Any]:
    switched, stayed = list[float](), list[float]()
    async with client() as session:
        await _round(session, corral.url)
        first = await _loads_written(corral, len(MODELS))
        for _ in range(ROUNDS - 1):
            for after_another, after_itself in await _round(session, corral.url):
                switched.append(after_another * 1000)
                stayed.append(after_itself * 1000)
    differences = [a - b for a, b in zip(switched, stayed, strict=True)]
    return {
        "rounds": ROUNDS,
        "loads_in_first_round": first,
        "first_token_ms": {"after_another": median(switched), "after_itself": median(stayed)},
        "switching_adds_ms": median(differences),
    }


async def _round(session: aiohttp.ClientSession, url: str) -> list[tuple[float, float]]:
    """Return the seconds to the first token after another model's answer and after its own, by model."""
    async with session.post(f"{url}/api/embed", json={"model": MODELS[0], "input": "horses"}) as response:
        response.raise_for_status()
        await response.read()
    pairs = []
    for model in MODELS[1:]:
        body = request(model, _TOKENS)
        after_another, _ = await generate(session, url, body)
        after_itself, _ = await generate(session, url, body)
        pairs.append((after_another, after_itself))
    return pairs


async def _loads_written(corral: Running, expected: int) -> int:
    """Return the loads in the log, which may be written a moment after the answer."""
    give_up = time.monotonic() + _LOGGED_WITHIN_S
    loads = 0
    while loads < expected and time.monotonic() < give_up:
        loads = count_loads((corral.directory / "log").read_text().splitlines())
        await asyncio.sleep(_LOOK_S)
    return loads
