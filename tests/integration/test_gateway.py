from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.contract.config import GatewayConfig, ModelConfig
from supervisor.contract.fleet import WorkerState
from tests.support.fake_ollama import FakeOllama
from tests.support.gateway import Bench, gateway, until

ASK = {"model": "count", "prompt": "hello"}
LOAD_REFUSED = "count:latest could not be loaded: w0: unsupported architecture"


async def ask(bench: Bench, **changes: Any) -> tuple[int, list[dict[str, Any]], dict[str, str]]:
    """Send one generate request and return status, frames and headers."""
    async with bench.http.post(f"{bench.url}/api/generate", json={**ASK, **changes}) as response:
        text = await response.text()
        frames = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return response.status, frames, dict(response.headers)


async def test_first_request_loads_the_model_and_is_streamed(tmp_path: Path) -> None:
    """A model that nobody holds is loaded once by the gateway, then the answer is relayed as it came."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        status, frames, headers = await ask(bench)
    assert (status, [frame["done"] for frame in frames]) == (200, [False, True])
    assert worker.loads == ["count"]
    assert headers["X-Corral-Worker"] == "w0"
    assert headers["Content-Type"] == "application/x-ndjson"


async def test_slots_fill_on_all_workers_and_the_next_request_waits_in_the_gateway(tmp_path: Path) -> None:
    """With 2 workers of 2 slots 4 answers run at once; the fifth reaches no worker before a slot is free."""
    workers = FakeOllama("w0"), FakeOllama("w1")
    for worker in workers:
        worker.script.extend(["hold"] * 4)
    async with gateway(tmp_path, *workers) as bench:
        asks = [asyncio.create_task(ask(bench)) for _ in range(5)]
        await until(lambda: sum(len(w.running) for w in workers) == 4, "four answers run")
        fleet = await admin(bench)
        assert fleet["queue"] == [{"model": "count:latest", "waiting": 1}]
        assert [len(worker.running) for worker in workers] == [2, 2]
        for worker in workers:
            worker.script.clear()
            worker.hold.set()
        answers = await asyncio.gather(*asks)
    assert [status for status, _, _ in answers] == [200] * 5
    assert sum(len(worker.served) for worker in workers) == 5
    assert [worker.most_at_once for worker in workers] == [2, 2]


async def admin(bench: Bench) -> dict[str, Any]:
    """Ask the unix socket for the fleet."""
    connector = aiohttp.UnixConnector(bench.admin_socket)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://corral/corral/fleet") as response,
    ):
        answer: dict[str, Any] = await response.json()
        return answer


async def test_queue_is_bounded(tmp_path: Path) -> None:
    """A request beyond max_queue gets a 503 that says when to come again."""
    worker = FakeOllama("w0", slots=1)
    worker.script.extend(["hold"] * 6)
    async with gateway(tmp_path, worker) as bench:
        asks = [asyncio.create_task(ask(bench)) for _ in range(1)]
        await until(lambda: len(worker.running) == 1, "one answer runs")
        asks += [asyncio.create_task(ask(bench)) for _ in range(5)]
        done, pending = await asyncio.wait(asks, return_when=asyncio.FIRST_COMPLETED)
        status, frames, headers = done.pop().result()
        assert status == 503
        assert "maximum pending requests exceeded" in frames[0]["error"]
        assert 1 <= int(headers["Retry-After"]) <= 30
        worker.hold.set()
        assert [answer[0] for answer in await asyncio.gather(*pending)] == [200] * 5


@pytest.mark.parametrize("leaving", ["waiting", "decoding"])
async def test_client_that_leaves_frees_its_place(tmp_path: Path, leaving: str) -> None:
    """Whether it waits or is being answered: the next in line is served."""
    worker = FakeOllama("w0", slots=1)
    worker.script.extend(["hold", "hold", "answer"])
    async with gateway(tmp_path, worker) as bench:
        first = asyncio.create_task(ask(bench))
        await until(lambda: len(worker.running) == 1, "the first answer runs")
        second = asyncio.create_task(ask(bench))
        leaver = first if leaving == "decoding" else second
        if leaving == "waiting":
            await until_queued(bench, 1)
        leaver.cancel()
        await asyncio.wait([leaver])
        if leaving == "waiting":
            await until_queued(bench, 0)
        worker.hold.set()
        (survivor,) = {first, second} - {leaver}
        assert (await survivor)[0] == 200


async def until_queued(bench: Bench, count: int) -> None:
    """Wait until that many requests wait in the gateway."""
    async with asyncio.timeout(10):
        queue = (await admin(bench))["queue"]
        while sum(model["waiting"] for model in queue) != count:
            await asyncio.sleep(0.01)
            queue = (await admin(bench))["queue"]


@pytest.mark.parametrize("failure", ["busy", "reset", "end empty"])
async def test_failure_before_the_first_byte_moves_to_another_worker(tmp_path: Path, failure: str) -> None:
    """503, reset and an empty answer are not the client's to see while another worker can serve."""
    workers = FakeOllama("w0"), FakeOllama("w1")
    workers[0].script.extend([failure] * 2)  # one that resets once may have closed the connection before
    async with gateway(tmp_path, *workers) as bench:
        status, frames, headers = await ask(bench)
    assert (status, frames[-1]["done"]) == (200, True)
    assert headers["X-Corral-Worker"] == "w1"


@pytest.mark.parametrize("failure", ["busy", "reset", "end empty"])
async def test_failure_on_the_only_worker_is_tried_again_there(tmp_path: Path, failure: str) -> None:
    """With nowhere else to go the request goes back after a pause."""
    worker = FakeOllama("w0")
    worker.script.extend([failure] * 2)
    async with gateway(tmp_path, worker) as bench:
        status, frames, _ = await ask(bench)
    assert (status, frames[-1]["done"]) == (200, True)


async def test_request_that_breaks_every_worker_is_given_up(tmp_path: Path) -> None:
    """A body that kills whoever reads it must not get at all workers: after three breaks it is a 502."""
    workers = FakeOllama("w0"), FakeOllama("w1")
    for worker in workers:
        worker.script.extend(["reset"] * 3)
    async with gateway(tmp_path, *workers) as bench:
        status, frames, _ = await ask(bench)
    assert (status, "broke off" in frames[0]["error"]) == (502, True)
    assert sum(len(worker.script) for worker in workers) == 3


async def test_worker_that_died_is_replaced_without_losing_a_request(tmp_path: Path) -> None:
    """Connection refused waits for the successor, which is a new incarnation that holds nothing."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        await ask(bench)
        await worker.stop()
        worker.loaded.clear()
        waiting = asyncio.create_task(ask(bench))
        bench.publish(state=WorkerState.BACKOFF)
        await until_queued(bench, 1)
        await worker.start()
        bench.publish(incarnation=2)
        status, frames, _ = await waiting
    assert (status, frames[-1]["done"]) == (200, True)
    assert worker.loads == ["count", "count"]


@pytest.mark.parametrize("failure", ["cut", "end early"])
async def test_stream_that_breaks_off_never_ends_cleanly(tmp_path: Path, failure: str) -> None:
    """After the first byte the client gets an error line and then a connection that is cut."""
    worker = FakeOllama("w0")
    worker.script.append(failure)
    received: list[bytes] = []
    async with gateway(tmp_path, worker) as bench:
        with pytest.raises(aiohttp.ClientPayloadError):
            await read_chunks(bench, received)
    assert "error" in json.loads(b"".join(received).splitlines()[-1])


async def read_chunks(bench: Bench, received: list[bytes]) -> None:
    """Collect what arrives until the answer ends or breaks."""
    async with bench.http.post(f"{bench.url}/api/generate", json=ASK) as response:
        async for chunk in response.content.iter_any():
            received.append(chunk)  # noqa: PERF401 -- what came before a break must not be lost


async def test_load_that_the_engine_refuses_is_the_clients_500(tmp_path: Path) -> None:
    """The engine's own reason reaches the client, and the worker goes on serving other models."""
    worker = FakeOllama("w0")
    worker.load_errors.append("unsupported architecture")
    async with gateway(tmp_path, worker) as bench:
        status, frames, _ = await ask(bench)
        assert (status, frames[0]["error"]) == (500, LOAD_REFUSED)
        assert (await ask(bench, model="other"))[0] == 200


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_a_load_that_failed_names_model_and_worker_in_every_surface(tmp_path: Path, path: str) -> None:
    """Of an error that says only `unsupported architecture` nobody could tell what to do."""
    worker = FakeOllama("w0")
    worker.load_errors.append("unsupported architecture")
    asked = {
        "model": "count",
        "messages": [{"role": "user", "content": "go"}],
        "input": "go",
        "max_tokens": 9,
    }
    async with (
        gateway(tmp_path, worker) as bench,
        bench.http.post(bench.url + path, json=asked) as response,
    ):
        assert response.status == 500
        error = (await response.json())["error"]
    assert (error if path == "/api/chat" else error["message"]) == LOAD_REFUSED


async def test_idle_model_makes_room_for_another(tmp_path: Path) -> None:
    """With room for one model the idle one is unloaded before the wanted one is loaded."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        await ask(bench)
        await ask(bench, model="other")
        assert worker.loaded == {"other"}
    assert worker.loads == ["count", "other"]


async def test_keep_alive_of_the_request_is_the_gateways_to_keep(tmp_path: Path) -> None:
    """keep_alive 0 unloads after the answer; the worker never sees the field in a client's request."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        await ask(bench, keep_alive=0)
        await until(lambda: not worker.loaded, "the model is unloaded")
    assert "keep_alive" not in worker.served[0]["body"]


async def test_unload_on_request(tmp_path: Path) -> None:
    """An empty prompt with keep_alive 0 unloads the model, and says so as Ollama does."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        await ask(bench)
        _, frames, _ = await ask(bench, prompt="", keep_alive=0)
        await until(lambda: not worker.loaded, "the model is unloaded")
    assert frames[0]["done_reason"] == "unload"


async def test_options_that_would_reload_the_model_are_left_out_and_told(tmp_path: Path) -> None:
    """num_ctx is the operator's; the answer's header says what was not honoured."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        _, _, headers = await ask(bench, options={"num_ctx": 9, "seed": 1})
    assert worker.served[0]["body"]["options"] == {"seed": 1}
    assert json.loads(headers["X-Corral-Ignored-Options"]) == {"num_ctx": 9}


async def test_credentials_and_origin_stay_in_the_gateway(tmp_path: Path) -> None:
    """What a client proves itself with, and where its page came from, is not the worker's business."""
    worker = FakeOllama("w0")
    headers = {"Authorization": "Bearer k", "Cookie": "a=b", "X-Request-Id": "mine"}
    headers["Origin"] = "http://localhost:3000"
    async with (
        gateway(tmp_path, worker) as bench,
        bench.http.post(f"{bench.url}/api/generate", json=ASK, headers=headers) as response,
    ):
        assert response.headers["X-Request-Id"] == "mine"
    seen = worker.served[0]["headers"]
    assert not seen.keys() & {"authorization", "cookie", "origin"}
    assert seen["x-request-id"] == "mine"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/generate", b"{not json", 400),
        ("/api/generate", b"", 400),
        ("/api/generate", b"[]", 400),
        ("/api/chat", b'{"messages":[]}', 400),
        ("/api/chat", b'{"model":3}', 400),
        ("/api/chat", b'{"model":"count","stream":"yes"}', 400),
        ("/api/chat", b'{"model":"count","keep_alive":"300"}', 400),
        ("/api/chat", b'{"model":"count","options":[]}', 400),
        ("/api/chat", b'{"model":"nobody"}', 404),
        ("/api/embed", b'{"model":"//"}', 400),
        ("/v1/chat/completions", b"{", 400),
        ("/v1/chat/completions", b'{"messages":[]}', 400),
        ("/v1/embeddings", b'{"model":"nobody"}', 404),
        ("/api/generate", b'{"model":"' + b"x" * 3000 + b'"}', 413),
        ("/v1/completions", b'{"model":"' + b"x" * 3000 + b'"}', 413),
    ],
)
async def test_bad_requests_get_an_error_in_their_own_shape(
    tmp_path: Path, path: str, body: bytes, status: int
) -> None:
    """Every refusal has the status and the error object of the API that was spoken."""
    config = GatewayConfig(max_body_size=2000)
    async with (
        gateway(tmp_path, FakeOllama("w0"), config=config) as bench,
        bench.http.post(bench.url + path, data=body) as response,
    ):
        assert response.status == status
        error = (await response.json())["error"]
    message = error["message"] if path.startswith("/v1/") else error
    assert isinstance(message, str)
    if status == 404:
        assert "count:latest" in message


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/nowhere", 404),
        ("GET", "/api/chat", 405),
        ("DELETE", "/v1/chat/completions", 405),
        ("POST", "/api/tags", 405),
        ("HEAD", "/", 200),
        ("GET", "/", 200),
        ("GET", "/corral/fleet", 404),
    ],
)
async def test_routes_are_exact(tmp_path: Path, method: str, path: str, status: int) -> None:
    """Unknown routes are 404, wrong methods 405, and administration is not on the clients' port."""
    async with (
        gateway(tmp_path, FakeOllama("w0")) as bench,
        bench.http.request(method, bench.url + path) as response,
    ):
        assert response.status == status


async def test_tags_are_merged_and_new_models_found(tmp_path: Path) -> None:
    """Models of several stores are listed once each, and one that was just added is served."""
    workers = FakeOllama("w0", models=("count",)), FakeOllama("w1", models=("count", "other"))
    async with gateway(tmp_path, *workers) as bench:
        await ask(bench)
        async with bench.http.get(f"{bench.url}/api/tags") as response:
            names = [row["name"] for row in (await response.json())["models"]]
        assert names == ["count:latest", "other:latest"]


async def test_residency_is_observed_after_a_restart_of_the_gateway(tmp_path: Path) -> None:
    """A gateway that finds a model loaded uses it and does not load it again."""
    worker = FakeOllama("w0", loaded={"count"})
    async with gateway(tmp_path, worker) as bench:
        assert (await ask(bench))[0] == 200
    assert worker.loads == []


async def test_request_that_waits_for_a_worker_finds_what_it_holds(tmp_path: Path) -> None:
    """A model that is resident on a worker that just came up is not loaded there again."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        assert (await ask(bench))[0] == 200
        bench.publish(state=WorkerState.BACKOFF)
        waiting = asyncio.create_task(ask(bench))
        await until_queued(bench, 1)
        bench.publish(incarnation=2)
        assert (await waiting)[0] == 200
    assert worker.loads == ["count"]


async def test_requests_wait_for_the_first_worker(tmp_path: Path) -> None:
    """While everything is still starting a request waits and is served, rather than refused."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker, state=WorkerState.STARTING) as bench:
        waiting = asyncio.create_task(ask(bench))
        async with bench.http.get(f"{bench.url}/corral/health") as response:
            assert response.status == 503
        bench.publish()
        assert (await waiting)[0] == 200


async def test_dedicated_worker_serves_only_its_models(tmp_path: Path) -> None:
    """`models` on a worker bounds what it is given, although its store has more."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker, models=("other",)) as bench:
        assert (await ask(bench))[0] == 404
        assert (await ask(bench, model="other"))[0] == 200


async def test_model_that_fits_nowhere_is_refused_with_the_numbers(tmp_path: Path) -> None:
    """Nothing is tried when the arithmetic says no; the error has both figures."""
    worker = FakeOllama("w0", size_bytes=20 * 2**30)
    async with gateway(tmp_path, worker) as bench:
        status, frames, _ = await ask(bench)
    assert status == 500
    assert "20.0 GiB" in frames[0]["error"]
    assert worker.loads == []


async def test_alias_means_the_model_it_stands_for(tmp_path: Path) -> None:
    """On every surface; the worker hears the model's own name, and an unknown alias stays unknown."""
    worker = FakeOllama("w0")
    models = {"count": ModelConfig(aliases=("gpt-4o-mini",))}
    async with gateway(tmp_path, worker, wishes=models) as bench:
        assert (await ask(bench, model="gpt-4o-mini"))[0] == 200
        chat = {"model": "gpt-4o-mini:latest", "messages": []}
        async with bench.http.post(f"{bench.url}/v1/chat/completions", json=chat) as response:
            assert response.status == 200
        assert (await ask(bench, model="gpt-4o"))[0] == 404
    assert [served["body"]["model"] for served in worker.served] == ["count", "count"]


async def test_context_of_a_model_goes_with_its_loads_and_requests(tmp_path: Path) -> None:
    """Otherwise each request would make the worker load the model again with its own context."""
    worker = FakeOllama("w0")
    models = {"count": ModelConfig(context_length=32)}
    async with gateway(tmp_path, worker, wishes=models) as bench:
        assert (await ask(bench, options={"seed": 1, "num_ctx": 999}))[0] == 200
    assert worker.load_options == [{"num_ctx": 32}]
    assert worker.served[0]["body"]["options"] == {"seed": 1, "num_ctx": 32}


async def test_openai_request_that_cannot_carry_the_context_is_refused(tmp_path: Path) -> None:
    """Ollama's /v1 would load the model anew with the worker's context: a 400 says what to do."""
    worker = FakeOllama("w0")
    models = {"count": ModelConfig(context_length=32)}
    chat = {"model": "count", "messages": []}
    async with (
        gateway(tmp_path, worker, wishes=models, engine="ollama") as bench,
        bench.http.post(f"{bench.url}/v1/chat/completions", json=chat) as response,
    ):
        assert response.status == 400
        assert "context_length" in (await response.json())["error"]["message"]


async def test_pinned_model_is_there_before_the_first_request(tmp_path: Path) -> None:
    """It is loaded as soon as its worker is up, and stays."""
    worker = FakeOllama("w0")
    models = {"other": ModelConfig(pin=True)}
    async with gateway(tmp_path, worker, wishes=models, keep_alive_s=0.0, max_loaded_models=2) as bench:
        await until(lambda: worker.loads == ["other"], "the pinned model is loaded")
        await ask(bench)
        await until(lambda: worker.loaded == {"other"}, "the other model is unloaded again")
