"""A real Ollama that somebody else started, behind the gateway alone."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.external.health import Timings
from supervisor.contract.config import ExternalWorker
from tests.support.gateway import Bench, gateway
from tests.support.models import counting_model
from tests.support.ollama_store import NEEDS_OLLAMA, ask, import_models, server

pytestmark = NEEDS_OLLAMA

TIMINGS: Final = Timings(probe_interval_s=0.2, first_backoff_s=0.1, max_backoff_s=0.2, look_interval_s=0.2)
PATIENCE_S: Final = 30.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models in a store."""
    directory = tmp_path_factory.mktemp("ollama")
    models = [counting_model(directory), counting_model(directory, name="other", words=100)]
    import_models(directory / "store", *models)
    return directory / "store"


def far(port: int) -> ExternalWorker:
    """Return what a file would say of the Ollama on that port."""
    return ExternalWorker.model_validate(
        {
            "name": "far",
            "url": f"http://127.0.0.1:{port}",
            "memory": "1GiB",
            "num_parallel": 2,
            "max_loaded_models": 2,
        }
    )


async def count(bench: Bench, model: str = "count") -> str:
    """Let the model go on from 1 2 through the gateway."""
    options = {"num_predict": 3, "temperature": 0}
    body = {"model": model, "prompt": "1 2", "raw": True, "stream": False, "options": options}
    async with bench.http.post(f"{bench.url}/api/generate", json=body) as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["response"]).strip()


async def resident(bench: Bench) -> dict[str, dict[str, Any]]:
    """Return what the gateway believes to be loaded, by name."""
    async with bench.http.get(f"{bench.url}/api/ps") as response:
        return {row["name"]: row for row in (await response.json())["models"]}


async def until_resident(bench: Bench, names: set[str]) -> None:
    """Wait until the gateway believes just these to be loaded."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if set(await resident(bench)) == names:
                return
            await asyncio.sleep(0.02)


async def until_ready(bench: Bench, number: int) -> None:
    """Wait until so many workers can take requests."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with bench.http.get(f"{bench.url}/corral/health") as response:
                if (await response.json())["workers_ready"] == number:
                    return
            await asyncio.sleep(0.02)


async def test_it_answers_with_the_limits_of_the_file(tmp_path: Path, store: Path) -> None:
    """A load and an answer; /api/ps tells the worker and the slots."""
    with server(store, OLLAMA_NUM_PARALLEL="2", OLLAMA_MAX_LOADED_MODELS="2") as port:
        async with gateway(tmp_path, external=[far(port)], timings=TIMINGS) as bench:
            assert await count(bench) == "3 4 5"
            row = (await resident(bench))["count:latest"]
    assert (row["worker"], row["num_parallel"]) == ("far", 2)


async def test_what_somebody_else_loads_and_unloads_there_is_learnt(tmp_path: Path, store: Path) -> None:
    """Within the interval, by looking."""
    with server(store, OLLAMA_MAX_LOADED_MODELS="2") as port:
        async with gateway(tmp_path, external=[far(port)], timings=TIMINGS) as bench:
            await until_ready(bench, 1)
            await asyncio.to_thread(ask, port, "/api/generate", {"model": "other", "keep_alive": -1})
            await until_resident(bench, {"other:latest"})
            await asyncio.to_thread(ask, port, "/api/generate", {"model": "other", "keep_alive": 0})
            await until_resident(bench, set())


async def test_one_that_is_restarted_is_served_again(tmp_path: Path, store: Path) -> None:
    """Requests wait while it is away, and what it had loaded is not believed of the new one."""
    with ExitStack() as first, ExitStack() as second:
        port = first.enter_context(server(store))
        async with gateway(tmp_path, external=[far(port)], timings=TIMINGS) as bench:
            assert await count(bench) == "3 4 5"
            await asyncio.to_thread(first.close)
            await until_ready(bench, 0)
            waiting = asyncio.create_task(count(bench))
            await asyncio.to_thread(second.enter_context, server(store, port))
            assert await waiting == "3 4 5"
