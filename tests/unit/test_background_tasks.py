"""What becomes of tasks that nobody waits for."""

from __future__ import annotations

import asyncio
import gc

from structlog.testing import capture_logs

from supervisor.contract.shell.background_tasks import BackgroundTasks


async def breaks() -> None:
    """Fail as a mistake of ours does."""
    raise KeyError("gpu0")


async def goes_on() -> None:
    """Do nothing for ever; only whoever began it holds it."""
    await asyncio.get_running_loop().create_future()


async def test_failure_that_nobody_waits_for_is_in_the_log() -> None:
    """With the task and the exception; its end is seen like any other."""
    tasks = BackgroundTasks()
    with capture_logs() as lines:
        tasks.start(breaks())
        await tasks.wait()
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("a background task failed", "error")
    assert line["task"] == "breaks"
    assert isinstance(line["exc_info"], KeyError)
    assert len(tasks) == 0


async def test_failure_stays_with_the_task_for_whoever_does_wait() -> None:
    """The log is told besides."""
    task = BackgroundTasks().start(breaks())
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], KeyError)


async def test_task_is_kept_while_it_is_under_way() -> None:
    """The event loop would let it be collected."""
    tasks = BackgroundTasks()
    tasks.start(goes_on())
    await asyncio.sleep(0)
    gc.collect()
    assert len(tasks) == 1
    await tasks.close()
    assert len(tasks) == 0


async def test_waiting_includes_what_is_begun_meanwhile() -> None:
    """Otherwise whoever waits for quiet would go on in the middle of something."""
    tasks, done = BackgroundTasks(), []

    async def second() -> None:
        done.append("second")

    async def first() -> None:
        done.append("first")
        tasks.start(second())

    tasks.start(first())
    await tasks.wait()
    assert done == ["first", "second"]


async def test_nothing_goes_on_after_the_end() -> None:
    """Neither does what a task begins while it is broken off; being broken off is no failure."""
    tasks = BackgroundTasks()

    async def cleans_up() -> None:
        try:
            await goes_on()
        finally:
            tasks.start(goes_on())

    tasks.start(cleans_up())
    await asyncio.sleep(0)
    with capture_logs() as lines:
        await tasks.close()
    assert len(tasks) == 0
    assert lines == []
