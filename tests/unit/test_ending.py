"""What a gateway's end waits for."""

from __future__ import annotations

import asyncio

import pytest

from gateway.ending import Ending


async def test_gateway_that_cannot_follow_its_supervisor_any_more_ends_with_the_reason() -> None:
    """It would serve the workers of that moment for ever; the supervisor puts another one in its place."""

    async def breaks() -> None:
        raise KeyError("gpu0")

    link = asyncio.create_task(breaks())
    with pytest.raises(KeyError, match="gpu0"):
        await Ending().wait_for_either(asyncio.Event(), link)


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def test_gateway_that_was_relieved_follows_no_more_and_waits_for_its_end() -> None:
    """The link is cancelled a moment before."""
    given_up, link = asyncio.Event(), asyncio.create_task(_for_ever())
    waits = asyncio.create_task(Ending().wait_for_either(given_up, link))
    link.cancel()
    await asyncio.wait([link])
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waits.done()
    given_up.set()
    async with asyncio.timeout(10):
        await waits


async def test_gateway_that_follows_nobody_ends_when_it_is_told() -> None:
    """By a signal."""
    ending = Ending()
    ending.signalled()
    async with asyncio.timeout(10):
        await ending.wait_for_either(asyncio.Event(), None)
