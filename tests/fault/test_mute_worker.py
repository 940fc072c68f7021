"""A worker that takes a request and never answers, while GET /api/version is green."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.faulty import GOOD, Stage, stage
from tests.support.gateway import until


def requests(corral: Stage) -> list[dict[str, Any]]:
    """Return what the log tells of requests; the line of one may come after its answer."""
    return [line for line in corral.log() if line["event"] == "request"]


async def test_what_it_was_sent_is_answered_by_another(tmp_path: Path) -> None:
    """After `first_byte_timeout`; it is left out at once, and what comes next goes to the other first."""
    async with stage(tmp_path, ("mute",), ("slow",), idle_timeout=60) as corral:
        first = await corral.ask()
        await corral.until_left_out("w0")
        others = await corral.ask_many(6)
        await until(lambda: len(requests(corral)) == 7, "the log tells of all")
        failed = [line for line in requests(corral) if "failed_attempts" in line]
        assert first.well
        assert all(told.well and told.worker == "w1" for told in others)
        assert len(failed) == 1, "only the first was sent to it"


@pytest.mark.slow
async def test_an_answer_in_one_piece_is_asked_for_again_too(tmp_path: Path) -> None:
    """There the first byte is the last: the time is several times that of a whole answer."""
    async with stage(tmp_path, ("mute", "inf", "1"), GOOD) as corral:
        first = await corral.ask(stream=False)
        second = await corral.ask(stream=False)
        assert (first.well, first.worker) == (True, "w0")
        assert (second.well, second.worker) == (True, "w1")


@pytest.mark.slow
async def test_it_is_let_in_again_once_it_gives_a_token(tmp_path: Path) -> None:
    """Nobody has to tell: the circuit is half open, asks, and closes."""
    async with stage(tmp_path, ("mute", "2"), GOOD) as corral:
        assert (await corral.ask()).well
        await corral.until_left_out("w0")
        await corral.until_left_out()
        assert [told.well for told in await corral.ask_many(4)] == [True] * 4


@pytest.mark.slow
async def test_the_only_worker_is_not_left_out(tmp_path: Path) -> None:
    """When all that could serve are open, something else may be wrong: requests go on."""
    async with stage(tmp_path, ("mute", "2")) as corral:
        told = await corral.ask()
        assert (told.well, told.worker) == (True, "w0")
