"""How long this machine takes to load a model, so that the same is asked of a slow machine and of a fast one.

Requests that come at a fixed rate swamp a machine that is half as fast, and hardly occupy one that is twice
as fast: what is compared then is the machine. So requests are as many in the time of a load everywhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import chain
from statistics import fmean

from gateway.simulate.model import Fleet, Model
from scripts.figures.real_workers import Hand
from scripts.figures.streams import client


async def typical_load_s(among: Fleet, urls: Sequence[str]) -> float:
    """Return the mean of the seconds that the fleet's models take to load while all workers load."""
    async with client() as session:
        hands = [await Hand.of(url, session) for url in urls]
        try:
            loads = [_loads_s(hand, _from(among.models, at)) for at, hand in enumerate(hands)]
            return fmean(chain.from_iterable(await asyncio.gather(*loads)))
        finally:
            for hand in hands:
                await hand.close()


def _from(models: Sequence[Model], worker: int) -> list[Model]:
    """Return all of them, each worker's beginning with another, so that none reads what another just has."""
    at = worker * len(models) // 2 % len(models)
    return [*models[at:], *models[:at]]


async def _loads_s(hand: Hand, models: Sequence[Model]) -> list[float]:
    times = []
    for model in models:
        started = time.monotonic()
        await hand.load(model)
        times.append(time.monotonic() - started)
    return times
