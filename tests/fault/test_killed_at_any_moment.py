"""A worker that is killed before the first byte, or while it loads: the client only waits a little longer.

Idle and mid-stream are in `test_killed_processes.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import ollama
import pytest

from tests.support.aftermath import all_comes_back, ask_gateway
from tests.support.corral import Corral, corral
from tests.support.gateway import until
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.supervisor import children_of, eventually, exists

THREE: Final = {"num_predict": 3, "temperature": 0}
PROMPT_WORDS: Final = {"embedded": 500, "ollama": 150}
"""So many that the worker can be killed while they are read, and no more: they are read twice."""
CONTEXT: Final = 2048


@pytest.fixture(scope="module", params=ENGINES)
def running(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Corral]:
    """One worker, so that its successor must answer, with a model that takes its time."""
    directory: Path = tmp_path_factory.mktemp("killed")
    counting_model(directory / "models", width=512, layers=6, feed_forward=2048)
    defaults = {"engine": request.param, "context_length": CONTEXT}
    with corral(directory, engine=request.param, worker_defaults=defaults, workers=[{"name": "w0"}]) as it:
        yield it


def seen(running: Corral) -> dict[str, Any]:
    """Return the worker as the gateway sees it."""
    (worker,) = ask_gateway(running.directory / "run", "/corral/fleet")["workers"]
    return dict(worker)


def phases(running: Corral) -> list[str]:
    """Return what is done with models."""
    return [model["phase"] for model in seen(running)["resident"]]


async def answer(running: Corral, prompt: str) -> str:
    """Return three words."""
    client = ollama.AsyncClient(running.url)
    try:
        return (await client.generate("count", prompt, raw=True, options=THREE)).response or ""
    finally:
        await client.close()  # type: ignore[no-untyped-call]  # the library left it bare


def kill(worker: dict[str, Any]) -> list[int]:
    """Kill the worker alone; return what it had started."""
    orphans = children_of(worker["pid"])
    os.kill(worker["pid"], signal.SIGKILL)
    return orphans


async def test_a_worker_killed_before_the_first_byte_costs_no_request(running: Corral) -> None:
    """Four prompts are being read; the successor loads the model and answers all four."""
    await answer(running, "1 2")
    with all_comes_back(running):
        words = " ".join(str(number % 100) for number in range(PROMPT_WORDS[running.engine]))
        asked = [asyncio.create_task(answer(running, f"{n} {words} 41")) for n in range(4)]
        await until(lambda: sum(m["busy"] for m in seen(running)["resident"]) == 4, "all have a slot")
        victim = seen(running)
        orphans = kill(victim)
        assert [text.split() for text in await asyncio.gather(*asked)] == [["42", "43", "44"]] * 4
        eventually(lambda: not any(map(exists, orphans)), "the runners' end")
        assert seen(running)["incarnation"] > victim["incarnation"]


async def test_a_worker_killed_while_it_loads_costs_no_request(running: Corral) -> None:
    """Whoever waits for the load waits for that of the successor."""
    await answer(running, "1 2")
    with all_comes_back(running):
        kill(seen(running))
        asked = [asyncio.create_task(answer(running, "40 41")) for _ in range(4)]
        await until(lambda: "loading" in phases(running), "it loads")
        victim = seen(running)
        kill(victim)
        assert [text.split() for text in await asyncio.gather(*asked)] == [["42", "43", "44"]] * 4
        assert seen(running)["incarnation"] > victim["incarnation"]
