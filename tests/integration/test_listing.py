"""Lists, residency and details through a running gateway, before workers that are counted and held up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ollama
import pytest
from aiohttp import web

from supervisor.contract.config import ModelConfig
from supervisor.contract.fleet import Device, DeviceKind, WorkerState
from tests.support.fake_ollama import FakeOllama
from tests.support.gateway import Bench, gateway, until

ANTHROPIC = {"anthropic-version": "2023-06-01"}


@dataclass
class Listing(FakeOllama):
    """A worker that counts what it is asked and answers /api/tags and /api/show as a test wants it."""

    asked: list[str] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    gate: asyncio.Event | None = None
    """What /api/tags and /api/show wait for."""
    digests: dict[str, str] = field(default_factory=dict)

    def digest(self, model: str) -> str:
        return self.digests.get(model, f"{model.removesuffix(':latest'):x<64}")

    async def tags(self, request: web.Request) -> web.Response:
        self.asked.append("tags")
        if self.gate is not None:
            await self.gate.wait()
        return await super().tags(request)

    async def show(self, request: web.Request) -> web.Response:
        self.shown.append(await request.json())
        if self.gate is not None:
            await self.gate.wait()
        if self.shown[-1]["model"].removesuffix(":latest") not in self.models:
            return web.json_response({"error": f"model '{self.shown[-1]['model']}' not found"}, status=404)
        return await super().show(request)


async def get(bench: Bench, path: str, **headers: str) -> Any:
    """Return the JSON of an answer."""
    async with bench.http.get(bench.url + path, headers=headers) as response:
        return await response.json()


async def names(bench: Bench) -> list[str]:
    """Return the names that /api/tags lists."""
    return [row["name"].removesuffix(":latest") for row in (await get(bench, "/api/tags"))["models"]]


async def show(bench: Bench, **body: Any) -> tuple[int, Any]:
    """Return status and answer of /api/show."""
    async with bench.http.post(f"{bench.url}/api/show", json=body) as response:
        return response.status, await response.json()


# tags -----------------------------------------------------------------------------------


async def test_a_hung_worker_delays_no_list(tmp_path: Path) -> None:
    """Its last list stays; Open WebUI gives up after 10 s."""
    quick, hung = Listing("quick", models=("a",)), Listing("hung", models=("b",))
    async with gateway(tmp_path, quick, hung) as bench:
        await until_listed(bench, "a", "b")
        hung.gate = asyncio.Event()
        async with asyncio.timeout(5):
            for _ in range(20):
                assert await names(bench) == ["a", "b"]
        hung.gate.set()


async def until_listed(bench: Bench, *wanted: str) -> None:
    """Wait until just these names are listed."""
    async with asyncio.timeout(10):
        while await names(bench) != list(wanted):  # noqa: ASYNC110 -- another process's state has no event
            await asyncio.sleep(0.02)


async def test_polling_clients_reach_a_worker_seldom(tmp_path: Path) -> None:
    """Fifty lists are at most two readings, and /api/ps is none."""
    worker = Listing("w0")
    async with gateway(tmp_path, worker) as bench:
        await until_listed(bench, "count", "other")
        worker.asked.clear()
        looks = worker.looks
        for _ in range(50):
            await get(bench, "/api/tags")
            await get(bench, "/api/ps")
            await get(bench, "/v1/models")
        assert len(worker.asked) <= 2
        assert worker.looks == looks


async def test_a_model_that_came_to_the_store_is_listed_soon(tmp_path: Path) -> None:
    """Although nobody told the gateway; two seconds are soon."""
    worker = Listing("w0", models=("count",))
    async with gateway(tmp_path, worker) as bench:
        await until_listed(bench, "count")
        worker.models = ("count", "new")
        async with asyncio.timeout(3):
            await until_listed(bench, "count", "new")


async def test_lists_wait_a_little_for_the_first_worker(tmp_path: Path) -> None:
    """An empty list in the first second would make clients believe that there is no model."""
    worker = Listing("w0")
    async with gateway(tmp_path, worker, state=WorkerState.STARTING) as bench:
        listing = asyncio.create_task(names(bench))
        bench.publish()
        assert await listing == ["count", "other"]


async def test_stores_that_disagree_are_told_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Requests for such a name depend on where they go, and nobody would see why."""
    workers = Listing("w0"), Listing("w1", digests={"count": "f" * 64})
    async with gateway(tmp_path, *workers) as bench:
        await until_listed(bench, "count", "other")
    told = [line for line in capsys.readouterr().out.splitlines() if "different models" in line]
    assert len(told) == 1
    assert "count:latest" in told[0]


async def test_what_head_is_allowed_for(tmp_path: Path) -> None:
    """As Ollama's router has it."""
    async with gateway(tmp_path, Listing("w0")) as bench:
        seen = {}
        for path in ("/", "/api/version", "/api/tags", "/api/ps", "/api/show", "/v1/models"):
            async with bench.http.head(bench.url + path) as response:
                seen[path] = response.status
    allowed = {"/": 200, "/api/version": 200, "/api/tags": 200}
    assert seen == allowed | {"/api/ps": 405, "/api/show": 405, "/v1/models": 405}


# show -----------------------------------------------------------------------------------


async def test_details_are_asked_once_for_all_who_want_them(tmp_path: Path) -> None:
    """Each verbosity is an answer of its own."""
    worker = Listing("w0")
    async with gateway(tmp_path, worker) as bench:
        await asyncio.gather(*(show(bench, model="count") for _ in range(5)))
        await show(bench, name="COUNT:latest", verbose=False)
        await show(bench, model="count", verbose=True)
    assert [asked.get("verbose", False) for asked in worker.shown] == [False, True]


async def test_details_are_read_anew_when_the_model_is_another(tmp_path: Path) -> None:
    """The digest behind the name tells."""
    worker = Listing("w0")
    async with gateway(tmp_path, worker) as bench:
        await show(bench, model="count")
        worker.digests["count"] = "f" * 64
        async with asyncio.timeout(5):
            while len(worker.shown) < 2:
                await show(bench, model="count")
                await asyncio.sleep(0.05)


async def test_what_changes_the_answer_reaches_the_worker(tmp_path: Path) -> None:
    """`system` is not kept, and comes with the worker's own name of the model."""
    worker = Listing("w0")
    models = {"count": ModelConfig(aliases=("gpt-4o-mini",))}
    async with gateway(tmp_path, worker, wishes=models) as bench:
        for _ in range(2):
            assert (await show(bench, model="gpt-4o-mini", system="be kind"))[0] == 200
    assert worker.shown[-2:] == [{"model": "count:latest", "system": "be kind"}] * 2


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 400, "model is required"),
        ({"model": "a b"}, 400, "invalid model name"),
        ({"model": "nobody"}, 404, "model 'nobody' not found"),
    ],
)
async def test_refusals_of_show_are_ollamas(
    tmp_path: Path, body: dict[str, Any], status: int, text: str
) -> None:
    """Status and text."""
    async with gateway(tmp_path, Listing("w0")) as bench:
        assert await show(bench, **body) == (status, {"error": text})


async def test_another_worker_shows_what_one_does_not(tmp_path: Path) -> None:
    """And when none does, the error says which one was asked."""
    first, second = Listing("w0"), Listing("w1")
    async with gateway(tmp_path, first, second) as bench:
        await until_listed(bench, "count", "other")
        await first.stop()
        assert (await show(bench, model="count"))[0] == 200
        await second.stop()
        status, answer = await show(bench, model="other")
        assert status == 502
        assert "w1" in answer["error"]
        assert (await show(bench, model="count"))[0] == 200


async def test_a_worker_that_is_down_is_said_to_be(tmp_path: Path) -> None:
    """With a 503 and when to come again."""
    async with gateway(tmp_path, Listing("w0")) as bench:
        await until_listed(bench, "count", "other")
        bench.publish(state=WorkerState.BACKOFF)
        await until_unready(bench)
        async with bench.http.post(f"{bench.url}/api/show", json={"model": "count"}) as response:
            assert response.status == 503
            assert 1 <= int(response.headers["Retry-After"]) <= 30


async def until_unready(bench: Bench) -> None:
    """Wait until the gateway knows that no worker is ready."""
    async with asyncio.timeout(10):
        while (await get(bench, "/corral/health"))["workers_ready"]:  # noqa: ASYNC110 -- the same
            await asyncio.sleep(0.01)


# ps -------------------------------------------------------------------------------------


GPU = Device(kind=DeviceKind.GPU, id="GPU-1", label="GPU 0 NVIDIA L4")


async def test_a_resident_model_has_a_row_for_each_worker_that_holds_it(tmp_path: Path) -> None:
    """With GPUs and slots behind Ollama's fields, and what the `ollama` client reads of it."""
    workers = (Listing(name, loaded={"count"}, vram_share=1.0) for name in ("w0", "w1"))
    async with gateway(tmp_path, *workers, devices=(GPU,)) as bench:
        await bench.until_resident("w0 count", "w1 count")
        rows = (await get(bench, "/api/ps"))["models"]
        client = ollama.AsyncClient(bench.url)
        read = await client.ps()
        await client.close()  # type: ignore[no-untyped-call]  # the library left it bare
    wanted: dict[str, Any] = {"worker": "w0", "gpus": [{"id": "GPU-1", "label": "GPU 0 NVIDIA L4"}]}
    wanted |= {"num_parallel": 2, "busy": 0, "size": 1000, "size_vram": 1000, "context_length": 64}
    assert rows[0] | wanted == rows[0]
    assert [model.name for model in read.models] == ["count:latest"] * 2


async def test_expiry_is_when_corral_will_unload(tmp_path: Path) -> None:
    """By the last wish of a client; the one that stays longest comes first, and one that is kept for ever."""
    worker = Listing("w0", models=("a", "b", "c"))
    async with gateway(
        tmp_path, worker, max_loaded_models=3, wishes={"c": ModelConfig(pin=True)}, keep_alive_s=60.0
    ) as bench:
        await bench.post(model="a", keep_alive=600)
        await bench.post(model="b")
        await bench.until_resident("w0 a", "w0 b", "w0 c")
        rows = (await get(bench, "/api/ps"))["models"]
    now = datetime.now(UTC)
    left = [(datetime.fromisoformat(row["expires_at"]) - now).total_seconds() for row in rows]
    assert [row["name"] for row in rows] == ["c:latest", "a:latest", "b:latest"]
    assert left[0] > 1e9
    assert left[1:] == pytest.approx([600, 60], abs=5)


async def test_a_wish_beyond_all_calendars_is_for_ever(tmp_path: Path) -> None:
    """A keep_alive of 1e300 s is accepted; the lists survive it."""
    async with gateway(tmp_path, Listing("w0")) as bench:
        await bench.post(keep_alive=1e300)
        (row,) = (await get(bench, "/api/ps"))["models"]
    assert row["expires_at"].startswith("2318-")


async def test_a_model_that_is_asked_to_leave_expires_now(tmp_path: Path) -> None:
    """It goes when its request ends; `ollama ps` then says that it stops."""
    worker = Listing("w0")
    worker.script.append("hold")
    async with gateway(tmp_path, worker) as bench:
        request = asyncio.create_task(bench.post())
        await until(lambda: bool(worker.running), "the answer began")
        await bench.post(prompt="", keep_alive=0)
        (row,) = (await get(bench, "/api/ps"))["models"]
        assert datetime.fromisoformat(row["expires_at"]) <= datetime.now(UTC)
        worker.hold.set()
        await request


# v1 -------------------------------------------------------------------------------------


async def test_v1_models_has_aliases_and_either_shape(tmp_path: Path) -> None:
    """Anthropic's for who sends its header, OpenAI's for all others; aliases in both."""
    models = {"count": ModelConfig(aliases=("gpt-4o-mini",))}
    async with gateway(tmp_path, Listing("w0"), wishes=models) as bench:
        openai_ids = {model["id"] for model in (await get(bench, "/v1/models"))["data"]}
        anthropics = await get(bench, "/v1/models", **ANTHROPIC)
        one = await get(bench, "/v1/models/gpt-4o-mini")
        other = await get(bench, "/v1/models/gpt-4o-mini", **ANTHROPIC)
    assert (
        openai_ids
        == {model["id"] for model in anthropics["data"]}
        == {"count:latest", "other:latest", "gpt-4o-mini"}
    )
    assert (one["object"], one["id"]) == ("model", "gpt-4o-mini")
    assert (other["type"], other["id"], other["display_name"]) == ("model", "gpt-4o-mini", "gpt-4o-mini")


async def test_a_slash_behind_a_model_leads_to_the_model(tmp_path: Path) -> None:
    """As on a real Ollama, however the name is written; colons stay."""
    async with gateway(tmp_path, Listing("w0")) as bench:
        for path in ("/v1/models/count:latest/?a=b", "/v1/models//count:latest?a=b"):
            async with bench.http.get(f"{bench.url}{path}", allow_redirects=False) as response:
                assert response.status in {301, 307}
                assert response.headers["Location"] == "/v1/models/count:latest?a=b"


@pytest.mark.parametrize(("name", "status"), [("nobody", 404), ("a%20b", 400), ("a/b/c/d", 400)])
async def test_v1_refusals_have_the_clients_shape(tmp_path: Path, name: str, status: int) -> None:
    """An unknown model and a name that is none."""
    async with gateway(tmp_path, Listing("w0")) as bench:
        for headers in ({}, ANTHROPIC):
            async with bench.http.get(f"{bench.url}/v1/models/{name}", headers=headers) as response:
                assert response.status == status
                answer = await response.json()
            assert answer["error"]["type"] in {"not_found_error", "invalid_request_error"}
            assert (answer.get("type") == "error") is bool(headers)
