"""A load that comes to no end: its process stands still, while the worker answers everything else.

Seeds: drop `async with loading.limit` in `gateway/fleet/moves.py`, or what `on_timeout` is set to in
`gateway/health/watch.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import ollama
import pytest

from tests.support.aftermath import all_comes_back, ask_gateway
from tests.support.corral import Corral, corral
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.supervisor import children_of, eventually, exists

ONE: Final = {"num_predict": 1, "temperature": 0}
DEADLINE_S: Final = 60.0
LIMIT_S: Final = 6.0
"""Of a load; one that is not stopped takes a fraction, also on a busy machine."""


@contextmanager
def running(directory: Path, engine: str, *workers: str) -> Iterator[Corral]:
    """Run a Corral with a model that takes long enough to load that it can be stopped meanwhile."""
    counting_model(directory / "models", name="heavy", width=512, layers=6, feed_forward=2048)
    changes: dict[str, Any] = {
        "gateway": {"load_timeout": LIMIT_S, "request_timeout": DEADLINE_S},
        "scheduling": {"load_retry": 0.5},
    }
    with corral(directory, engine=engine, workers=[{"name": name} for name in workers], **changes) as running:
        yield running


@asynccontextmanager
async def stopping_loads(running: Corral, *, most: int) -> AsyncIterator[list[int]]:
    """Stop the processes that load models in workers' first lives, so many; yield their pids as they come."""
    stopped: list[int] = []

    async def stop() -> None:
        while len(stopped) < most:
            for worker in ask_gateway(running.directory / "run", "/corral/fleet")["workers"]:
                loads = any(model["phase"] == "loading" for model in worker["resident"])
                for pid in children_of(worker["pid"]) if loads and worker["incarnation"] == 1 else ():
                    if pid not in stopped and len(stopped) < most and is_runner(pid):
                        os.kill(pid, signal.SIGSTOP)
                        stopped.append(pid)
            await asyncio.sleep(0.002)

    task = asyncio.create_task(stop())
    try:
        yield stopped
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def is_runner(pid: int) -> bool:
    """Return whether it runs its own program yet: stopped before that it would hold up its parent as well."""
    try:
        return b"runner" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def ask(running: Corral) -> ollama.GenerateResponse | ollama.ResponseError:
    """Return the answer, or the refusal."""
    client = ollama.AsyncClient(running.url)
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await client.generate("heavy", "1 2", options=ONE)
    except ollama.ResponseError as error:
        return error
    finally:
        await client.close()  # type: ignore[no-untyped-call]  # the library left it bare


@pytest.mark.parametrize("engine", ENGINES)
async def test_who_waits_for_it_is_served_by_another_worker(tmp_path: Path, engine: str) -> None:
    """Nobody sees more than a wait; the process that stood still is ended, and its worker lives."""
    with running(tmp_path, engine, "w0", "w1") as fleet, all_comes_back(fleet):
        async with stopping_loads(fleet, most=1) as stopped:
            answers = await asyncio.gather(*(ask(fleet) for _ in range(3)))
        assert all(isinstance(answer, ollama.GenerateResponse) for answer in answers), answers
        eventually(lambda: not exists(stopped[0]), "the load that stood still is ended")
        (line,) = (line for line in fleet.log() if line["event"] == "load refused")
        assert "took longer than gateway.load_timeout (6 s)" in line["error"]
        assert {fleet.worker(name)["incarnation"] for name in ("w0", "w1")} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
async def test_where_there_is_no_other_it_is_told_and_the_second_is_a_verdict(
    tmp_path: Path, engine: str
) -> None:
    """Model, worker and limit; after two in a row the worker is replaced, and loads again."""
    with running(tmp_path, engine, "w0") as fleet, all_comes_back(fleet):
        async with stopping_loads(fleet, most=9), asyncio.timeout(DEADLINE_S):
            while not any(line["event"] == "worker hangs" for line in fleet.log()):
                error = await ask(fleet)  # for a while after a load it is refused at once, in the same words
                assert isinstance(error, ollama.ResponseError)
                assert error.status_code == 500
                assert error.error.startswith("heavy:latest could not be loaded: w0: ")
                assert "gateway.load_timeout (6 s)" in error.error
            fleet.wait_until_replaced("w0", after=1)
            assert isinstance(await ask(fleet), ollama.GenerateResponse)
