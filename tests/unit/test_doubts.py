from __future__ import annotations

import asyncio

import pytest

from gateway.fleet.doubts import Doubts, doubtful, took_a_load
from gateway.scheduling.names import Instance

W0, W1 = Instance("w0", 1), Instance("w1", 1)


class Looker:
    """Notes who is looked at, and says whether that was possible."""

    def __init__(self) -> None:
        self.looked: list[Instance] = []
        self.quiet = True
        self.twice = asyncio.Event()

    async def __call__(self, instance: Instance) -> bool:
        if self.quiet:
            self.looked.append(instance)
        if len(self.looked) > 1:
            self.twice.set()
        return self.quiet


async def settle() -> None:
    """Let everything run that can run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_doubted_worker_is_looked_at_once() -> None:
    """However many reasons there are, and not again within the pause."""
    look = Looker()
    doubts = Doubts(look, pause_s=3600)
    for why in ("slow", "404"):
        doubts.doubt(W0, why)
    await settle()
    doubts.doubt(W0, "404 again")
    await settle()
    assert look.looked == [W0]
    await doubts.close()


async def test_a_doubt_that_comes_too_soon_is_not_forgotten() -> None:
    """It is made up for when the pause is over."""
    look = Looker()
    doubts = Doubts(look, pause_s=0.01)
    doubts.doubt(W0, "slow")
    await settle()
    doubts.doubt(W0, "slow again")
    async with asyncio.timeout(5):
        await look.twice.wait()
    await doubts.close()


async def test_a_busy_worker_is_looked_at_when_its_last_request_ends() -> None:
    """The look is refused until then."""
    look = Looker()
    doubts = Doubts(look)
    look.quiet = False
    doubts.doubt(W0, "slow")
    await settle()
    look.quiet = True
    doubts.quieted(W1)
    await settle()
    assert look.looked == []
    doubts.quieted(W0)
    await settle()
    assert look.looked == [W0]
    await doubts.close()


async def test_doubts_about_the_dead_are_dropped() -> None:
    """Their successors are asked anyway."""
    look = Looker()
    doubts = Doubts(look)
    look.quiet = False
    doubts.doubt(W0, "slow")
    await settle()
    doubts.keep_only({W1})
    look.quiet = True
    doubts.quieted(W0)
    await settle()
    assert look.looked == []
    await doubts.close()


@pytest.mark.parametrize(
    ("seconds", "tokens", "slow"), [(1.0, 10, False), (4.0, 10, True), (30.0, 4000, False)]
)
def test_an_answer_is_suspicious_by_its_prompt(seconds: float, tokens: int, slow: bool) -> None:  # noqa: FBT001 -- the table's
    """A long prompt takes its time to read; a short one does not."""
    assert took_a_load(seconds, tokens) is slow


def test_statuses_that_say_that_something_is_missing() -> None:
    """A bad request says nothing about the worker."""
    assert [doubtful(status) for status in (200, 400, 404, 500, 503)] == [False, False, True, False, True]
