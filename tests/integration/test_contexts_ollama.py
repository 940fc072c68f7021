"""Runner options that are passed to a real Ollama: a reload where one must be, and none unordered."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from supervisor.contract.config import ExternalWorker, SchedulingConfig
from tests.support.gateway import Bench, gateway
from tests.support.models import counting_model
from tests.support.ollama_store import NEEDS_OLLAMA, ask, import_models, server

pytestmark = NEEDS_OLLAMA

BRIEF = {"num_predict": 3}
PASS = SchedulingConfig(context="pass")
OWN = {"OLLAMA_CONTEXT_LENGTH": "1024", "OLLAMA_MAX_LOADED_MODELS": "2", "OLLAMA_NUM_PARALLEL": "1"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one model, and a second name over its weights that has a context of its own."""
    directory = tmp_path_factory.mktemp("contexts")
    import_models(directory / "store", counting_model(directory))
    with server(directory / "store") as port:
        order = {"model": "narrow", "from": "count", "parameters": {"num_ctx": 512}, "stream": False}
        assert ask(port, "/api/create", order)[0] == 200
    return directory / "store"


def worker(name: str, port: int) -> ExternalWorker:
    """Return what a file would say of the Ollama on that port."""
    return ExternalWorker.model_validate(
        {
            "name": name,
            "url": f"http://127.0.0.1:{port}",
            "memory": "1GiB",
            "max_loaded_models": 2,
            "context_length": 1024,
            "keep_alive": -1,
        }
    )


async def count(bench: Bench, **options: Any) -> dict[str, str]:
    """Let the model go on from 1 2 with these options and return the headers."""
    asked = {"num_predict": 3, "temperature": 0, **options}
    answer = await bench.post(prompt="1 2", raw=True, stream=False, options=asked)
    assert answer.status == 200, answer.text
    assert "3 4 5" in answer.text
    return answer.headers


def starts(store: Path) -> int:
    """Return how many runners the last server has loaded."""
    return (store.parent / "import.log").read_text().count('msg="loaded runners"')


def contexts(port: int) -> list[int]:
    """Return the contexts of what Ollama holds."""
    return [row["context_length"] for row in json.loads(ask(port, "/api/ps")[1])["models"]]


async def test_two_contexts_take_turns_on_one_worker(tmp_path: Path, store: Path) -> None:
    """Ollama starts a runner for each change, as ordered, and none behind the gateway's back."""
    with server(store, **OWN) as port:
        async with gateway(tmp_path, external=[worker("w0", port)], scheduling=PASS) as bench:
            for options, context, runners in (
                ({}, 1024, 1),
                ({"num_ctx": 1024}, 1024, 1),
                ({"num_ctx": 2048}, 2048, 2),
                ({"num_ctx": 2048, "num_batch": 512}, 2048, 2),
                ({}, 1024, 3),
            ):
                headers = await count(bench, **options)
                assert headers.get("X-Corral-Context", "1024") == str(context)
                assert (contexts(port), starts(store)) == ([context], runners)


async def test_two_contexts_live_on_two_workers(tmp_path: Path, store: Path) -> None:
    """Each has a worker of its own, so that alternating costs no further load."""
    with ExitStack() as servers:
        ports = [servers.enter_context(server(store, **OWN)) for _ in range(2)]
        external = [worker(f"w{number}", port) for number, port in enumerate(ports)]
        async with gateway(tmp_path, external=external, scheduling=PASS) as bench:
            where = [
                (await count(bench, **({"num_ctx": 2048} if turn % 2 else {})))["X-Corral-Worker"]
                for turn in range(6)
            ]
            held = [contexts(port) for port in ports]
    assert len(set(where[::2])) == len(set(where[1::2])) == 1
    assert sorted(held) == [[1024], [2048]]


async def test_pinned_context_never_reloads(tmp_path: Path, store: Path) -> None:
    """Whatever clients ask, one runner answers."""
    with server(store, **OWN) as port:
        async with gateway(tmp_path, external=[worker("w0", port)]) as bench:
            for context in (512, 2048, 1024):
                headers = await count(bench, num_ctx=context)
                assert headers["X-Corral-Context"] == "1024"
            assert (contexts(port), starts(store)) == ([1024], 1)


async def test_long_prompt_is_cut_and_said_to_be(tmp_path: Path, store: Path) -> None:
    """Ollama answers as if nothing were; the header tells."""
    with server(store, **OWN) as port:
        async with gateway(tmp_path, external=[worker("w0", port)]) as bench:
            answer = await bench.post(prompt="1 2 3 4 " * 1000, raw=True, stream=False, options=BRIEF)
    assert answer.status == 200
    assert "longer than the context of 1024" in answer.headers["X-Corral-Warning"]


async def test_a_modelfiles_context_is_told(tmp_path: Path, store: Path) -> None:
    """It is the model's own, so that it counts where a request asks for another one."""
    with server(store, **OWN) as port:
        async with gateway(tmp_path, external=[worker("w0", port)]) as bench:
            answer = await bench.post(
                model="narrow",
                prompt="1 2",
                raw=True,
                stream=False,
                options={"num_ctx": 9999, "num_predict": 3},
            )
            assert answer.headers["X-Corral-Context"] == "512"
            assert contexts(port) == [512]
