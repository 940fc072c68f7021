"""A worker, or whoever has its port, that answers what is no answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.faulty import GOOD, stage

GARBAGE = ("no http", "page", "broken", "reset")
IN_ONE_PIECE = ("too long", "too short", "piece")


@pytest.mark.parametrize("fault", GARBAGE)
@pytest.mark.parametrize("stream", [True, False])
async def test_it_is_nothing_for_a_client(tmp_path: Path, fault: str, *, stream: bool) -> None:
    """No HTTP, a web page, a dead runner, a reset: another worker answers."""
    async with stage(tmp_path, (fault,), GOOD) as corral:
        told = await corral.ask_many(4, stream=stream)
        assert [(one.well, one.worker) for one in told] == [(True, "w1")] * 4


@pytest.mark.parametrize("fault", IN_ONE_PIECE)
async def test_a_body_that_is_not_whole_is_asked_for_again(tmp_path: Path, fault: str) -> None:
    """A Content-Length that is wrong, or JSON without its end."""
    async with stage(tmp_path, (fault,), GOOD) as corral:
        told = await corral.ask(stream=False)
        assert (told.well, told.worker) == (True, "w1")


async def test_so_many_in_a_row_take_the_worker_out(tmp_path: Path) -> None:
    """Until it answers a question: then it gets requests again."""
    async with stage(tmp_path, ("page", "5"), GOOD, slots=4) as corral:
        assert all(told.well for told in await corral.ask_many(8))
        await corral.until_left_out("w0")
        await corral.until_left_out()
        assert all(told.well for told in await corral.ask_many(8))


async def test_where_nobody_else_can_serve_the_same_is_asked_again(tmp_path: Path) -> None:
    """After a pause; each client gets its answer once."""
    async with stage(tmp_path, ("broken", "2")) as corral:
        told = await corral.ask_many(2)
        assert [(one.well, one.worker) for one in told] == [(True, "w0")] * 2
        assert corral.workers[0].count() == 4
