"""Streamed answers as a client sees them: how soon they begin and how fast they go."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import Any, Final

import aiohttp

from scripts.figures.running import Running

_PAIRS: Final = 60
_TOKENS: Final = 48


def request(model: str, tokens: int) -> dict[str, Any]:
    """Return the body of a streamed generate request whose answer has exactly so many tokens."""
    return {
        "model": model,
        "prompt": "1 2",
        "raw": True,
        "options": {"num_predict": tokens, "temperature": 0},
    }


async def generate(
    session: aiohttp.ClientSession, url: str, body: dict[str, Any]
) -> tuple[float, dict[str, Any]]:
    """Return the seconds to the first chunk and the last frame."""
    started = time.perf_counter()
    first_s = 0.0
    received = b""
    async with session.post(f"{url}/api/generate", json=body) as response:
        response.raise_for_status()
        async for chunk in response.content.iter_any():
            first_s = first_s or time.perf_counter() - started
            received += chunk
    frame: dict[str, Any] = json.loads(received.splitlines()[-1])
    return first_s, frame


def client() -> aiohttp.ClientSession:
    """Return a client without limits of its own."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False)


async def nine_streams(corral: Running) -> dict[str, Any]:
    """Ask nine long answers of 2 x 4 slots; return what runs in the workers and what waits in the gateway."""
    async with client() as session:
        asks = [asyncio.create_task(generate(session, corral.url, request("heavy", 400))) for _ in range(9)]
        busy, waiting = [0], 0
        while sum(busy) < 8 and not all(ask.done() for ask in asks):  # noqa: PLR2004 -- two times four
            busy = await asyncio.to_thread(corral.busy_in_workers)
            queue = (await asyncio.to_thread(corral.ps))["queue"]
            waiting = sum(model["waiting"] for model in queue)
        for ask in asks:
            ask.cancel()
        await asyncio.gather(*asks, return_exceptions=True)
    return {"busy_in_workers": busy, "waiting_in_gateway": waiting}


async def tokens_per_s(corral: Running, streams: int) -> float:
    """Return the tokens per second of all streams together, once the model is loaded everywhere."""
    body = request("heavy", _TOKENS)
    async with client() as session:
        await asyncio.gather(*(generate(session, corral.url, body) for _ in range(streams)))
        started = time.perf_counter()
        answers = await asyncio.gather(*(generate(session, corral.url, body) for _ in range(streams)))
        elapsed_s = time.perf_counter() - started
    return sum(int(frame["eval_count"]) for _, frame in answers) / elapsed_s


async def first_token_added_ms(corral: Running) -> dict[str, float]:
    """Return the median milliseconds to the first token straight from a worker and through the gateway."""
    body = request("count", 1)
    async with client() as session:
        await generate(session, corral.url, body)
        rows = corral.ps()["workers"]
        straight = next(row["base_url"] for row in rows if row["resident"])
        pairs = [
            (
                (await generate(session, straight, body))[0],
                (await generate(session, corral.url, body))[0],
            )
            for _ in range(_PAIRS)
        ]
    worker_ms, gateway_ms = (statistics.median(times) * 1000 for times in zip(*pairs, strict=True))
    return {"worker_ms": worker_ms, "gateway_ms": gateway_ms, "added_ms": gateway_ms - worker_ms}


async def answers_while_loading(corral: Running) -> dict[str, float]:
    """Have the other worker load `late`; return how long that took and how `count` fared meanwhile, in ms."""
    body = request("count", 1)
    async with client() as session:
        await generate(session, corral.url, body)
        started = time.perf_counter()
        loading = asyncio.create_task(generate(session, corral.url, request("late", 1)))
        times: list[float] = []
        while not loading.done():
            times.append((await generate(session, corral.url, body))[0] * 1000)
        await loading
        load_ms = (time.perf_counter() - started) * 1000
    slowest_ms, median_ms = max(times), statistics.median(times)
    return {"load_ms": load_ms, "answers": len(times), "slowest_ms": slowest_ms, "median_ms": median_ms}
