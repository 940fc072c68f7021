"""The surfaces that a real Ollama speaks itself, through the gateway: the same but for what must differ."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from gateway.external.health import Timings
from supervisor.contract.config import ExternalWorker, ModelConfig
from tests.support.gateway import Bench, gateway
from tests.support.models import counting_model
from tests.support.ollama_store import NEEDS_OLLAMA, ask, import_models, server

pytestmark = NEEDS_OLLAMA

TIMINGS: Final = Timings(probe_interval_s=0.2, first_backoff_s=0.1, max_backoff_s=0.2, look_interval_s=60)
ALIAS: Final = {"count": ModelConfig(aliases=("gpt-4o-mini",))}
GO: Final = [{"role": "user", "content": "go"}]
ASKS: Final[dict[str, dict[str, Any]]] = {
    "/api/chat": {"messages": GO, "options": {"num_predict": 5, "temperature": 0}},
    "/api/generate": {"prompt": "go", "options": {"num_predict": 5, "temperature": 0}},
    "/v1/chat/completions": {"messages": GO, "max_tokens": 5, "temperature": 0},
    "/v1/completions": {"prompt": "go", "max_tokens": 5, "temperature": 0},
    "/v1/messages": {"messages": GO, "max_tokens": 5, "temperature": 0},
    "/v1/responses": {"input": "go", "max_output_tokens": 5, "temperature": 0},
}
VOLATILE: Final = re.compile(
    r'"(id|item_id|created|created_at|completed_at|\w*_duration|system_fingerprint)": ?(\d+|"[^"]*")'
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model in a store."""
    directory = tmp_path_factory.mktemp("ollama")
    import_models(directory / "store", counting_model(directory))
    return directory / "store"


@pytest.fixture(scope="module")
def running(store: Path) -> Iterator[int]:
    """An Ollama for all tests that leave it alive."""
    with server(store) as port:
        yield port


def far(port: int) -> ExternalWorker:
    """Return what a file would say of the Ollama on that port."""
    return ExternalWorker.model_validate({"name": "far", "url": f"http://127.0.0.1:{port}", "memory": "1GiB"})


def plain(answer: str) -> str:
    """Leave out what is new in each answer."""
    return VOLATILE.sub(r'"\1":0', answer)


@pytest.mark.parametrize("route", ASKS)
async def test_answers_are_the_workers_own(tmp_path: Path, running: int, route: str) -> None:
    """Byte for byte, but for ids and times; the name is the one that was asked for."""
    async with gateway(tmp_path, external=[far(running)], wishes=ALIAS, timings=TIMINGS) as bench:
        for asked, real in (("count", "count"), ("COUNT:latest", "COUNT:latest"), ("gpt-4o-mini", "count")):
            for stream in (True, False):
                body = {**ASKS[route], "stream": stream}
                through = await bench.post(route, **{**body, "model": asked})
                status, direct = await asyncio.to_thread(ask, running, route, {**body, "model": real})
                expected = plain(direct.decode()).replace(f'"model":"{real}"', f'"model":"{asked}"')
                assert (through.status, plain(through.text)) == (status, expected)
                assert f'"model":"{asked}"' in through.text


@pytest.mark.parametrize("route", ASKS)
async def test_server_that_dies_in_an_answer_is_an_error_of_the_surface(
    tmp_path: Path, store: Path, route: str
) -> None:
    """Behind what came before, and then the connection is cut."""
    received = bytearray()
    with ExitStack() as mortal:
        port = mortal.enter_context(server(store))
        async with gateway(tmp_path, external=[far(port)], timings=TIMINGS) as bench:
            with pytest.raises(httpx.RemoteProtocolError):
                await read_while_it_dies(bench, route, received, mortal)
    last = received.decode().splitlines()[-1] or received.decode().splitlines()[-2]
    error = json.loads(last.removeprefix("data: "))["error"]
    assert "the worker broke off" in (error if route.startswith("/api/") else error["message"])


async def read_while_it_dies(bench: Bench, route: str, received: bytearray, mortal: ExitStack) -> None:
    """Ask for more than can be said in time, and stop the server once the answer has begun."""
    endless = {"options": {"num_predict": 2000}, "max_tokens": 2000, "max_output_tokens": 2000}
    body = {**ASKS[route], **endless, "model": "count", "stream": True}
    async with httpx.AsyncClient() as http, http.stream("POST", bench.url + route, json=body) as response:
        async for piece in response.aiter_raw():
            if not received:
                await asyncio.to_thread(mortal.close)
            received.extend(piece)


async def test_what_it_does_not_speak_is_refused_by_the_gateway(tmp_path: Path, running: int) -> None:
    """It would say that there is no such page."""
    async with gateway(tmp_path, external=[far(running)], timings=TIMINGS) as bench:
        answer = await bench.post("/v1/messages/count_tokens", messages=GO)
        assert (answer.status, json.loads(answer.text)["type"]) == (501, "error")
    assert (await asyncio.to_thread(ask, running, "/v1/messages/count_tokens", {}))[0] == 404
