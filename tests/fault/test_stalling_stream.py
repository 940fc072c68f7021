"""A worker that hangs between two chunks of an answer."""

from __future__ import annotations

from pathlib import Path

from tests.support.faulty import GOOD, stage


async def test_the_client_is_told_and_the_worker_left_out(tmp_path: Path) -> None:
    """What came stays, an error frame follows, the connection is cut; others are served elsewhere."""
    async with stage(tmp_path, ("stall",), GOOD, idle_timeout=1) as corral:
        told = await corral.ask()
        await corral.until_left_out("w0")
        others = await corral.ask_many(4)
        assert (told.status, told.whole, told.text) == (200, False, "1")
        assert "no next chunk within 1 s" in told.frames[-1]["error"]
        assert all(other.well and other.worker == "w1" for other in others)


async def test_an_answer_in_one_piece_that_stalls_is_made_again(tmp_path: Path) -> None:
    """Nothing of it has gone to the client, though some of it had come."""
    async with stage(tmp_path, ("stall", "inf", "1"), GOOD) as corral:
        first = await corral.ask(stream=False)
        second = await corral.ask(stream=False)
        assert (first.well, first.worker) == (True, "w0")
        assert (second.well, second.worker) == (True, "w1")
