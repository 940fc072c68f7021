from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.contract.config import GatewayConfig, ModelConfig
from supervisor.contract.fleet import WorkerState
from tests.support.fake_ollama import FakeOllama
from tests.support.fake_store import LAYER, TOTAL, StoreOnDisk, StoreWorker
from tests.support.gateway import Bench, gateway, until

SUCCESS = {"status": "success"}


def of_one_store(**second: Any) -> tuple[StoreWorker, StoreWorker]:
    """Two workers of one supervisor."""
    store = StoreOnDisk()
    return StoreWorker("w0", store=store), StoreWorker("w1", store=store, **second)


def of_two_stores() -> tuple[StoreWorker, StoreWorker]:
    """Two workers that share nothing; the second is faster."""
    near, far = StoreOnDisk("/near"), StoreOnDisk("/far")
    return StoreWorker("near", store=near, step=100), StoreWorker("far", store=far)


async def ask(bench: Bench, path: str, method: str = "POST", **body: Any) -> tuple[int, list[dict[str, Any]]]:
    """Return the status and all lines of an operation's answer."""
    async with bench.http.request(method, bench.url + path, json=body) as response:
        return response.status, [json.loads(line) for line in (await response.text()).splitlines()]


async def names(bench: Bench) -> set[str]:
    """Return the models that clients are shown."""
    async with bench.http.get(f"{bench.url}/api/tags") as response:
        return {row["name"] for row in (await response.json())["models"]}


async def until_ready(bench: Bench, count: int) -> None:
    """Wait until the gateway counts so many workers as ready."""
    async with asyncio.timeout(10):
        while await ready(bench) != count:  # noqa: ASYNC110 -- another program's state has no event
            await asyncio.sleep(0.01)


async def ready(bench: Bench) -> int:
    """Return how many workers the gateway counts as ready."""
    async with bench.http.get(f"{bench.url}/corral/health") as response:
        return int((await response.json())["workers_ready"])


def assert_reads_like_one_server(lines: list[dict[str, Any]]) -> None:
    """Bars only grow, to one total, and the last line alone says success."""
    bars = [(line.get("completed", 0), line["total"]) for line in lines if line.get("digest") == LAYER]
    assert bars == sorted(bars)
    assert {total for _, total in bars} == {TOTAL}
    assert bars[-1] == (TOTAL, TOTAL)
    assert [at for at, line in enumerate(lines) if line == SUCCESS] == [len(lines) - 1]


# One store that workers share ---------------------------------------------------------


async def test_one_worker_pulls_and_all_that_share_its_store_serve(tmp_path: Path) -> None:
    """The next request for the model may go to any of them."""
    w0, w1 = of_one_store()
    async with gateway(tmp_path, w0, w1) as bench:
        status, lines = await ask(bench, "/api/pull", model="new")
        assert status == 200
        assert_reads_like_one_server(lines)
        assert [w0.done, w1.done] == [["pull new:latest"], []]
        assert "new:latest" in await names(bench)
        assert (await bench.post(model="new")).status == 200


async def test_who_may_prune_changes_the_store(tmp_path: Path) -> None:
    """Only it can remove what a change leaves unused."""
    w0, w1 = of_one_store(prunes=True)
    async with gateway(tmp_path, w0, w1) as bench:
        await ask(bench, "/api/pull", model="a")
        await ask(bench, "/api/create", model="b", **{"from": "a"})
        await ask(bench, "/api/copy", source="b", destination="c")
        await ask(bench, "/api/delete", "DELETE", model="c")
        assert [w0.done, len(w1.done)] == [[], 4]
        assert await names(bench) == {"count:latest", "other:latest", "a:latest", "b:latest"}


async def test_a_pull_goes_on_at_another_worker_when_the_first_one_dies(tmp_path: Path) -> None:
    """Its client sees bars that only grow, and no error."""
    w0, w1 = of_one_store()
    w0.dies_at = 500
    async with gateway(tmp_path, w0, w1) as bench:
        _, lines = await ask(bench, "/api/pull", model="new")
        assert_reads_like_one_server(lines)
        assert w1.done == ["pull new:latest"]


async def test_a_pull_waits_for_its_only_worker_to_come_back(tmp_path: Path) -> None:
    """The supervisor starts it again; the pull goes on where it was."""
    worker = StoreWorker("w0", dies_at=500)
    async with gateway(tmp_path, worker) as bench:
        asked = asyncio.create_task(ask(bench, "/api/pull", model="new"))
        await until(lambda: worker.store.fetched == 375, "the worker died")
        bench.publish(state=WorkerState.STARTING, base_url="")
        worker.dies_at = None
        bench.publish(incarnation=2)
        _, lines = await asked
        assert_reads_like_one_server(lines)


async def test_a_creation_whose_worker_dies_is_not_begun_again(tmp_path: Path) -> None:
    """It may have been done or not; its client is told."""
    w0, w1 = of_one_store()
    async with gateway(tmp_path, w0, w1) as bench:
        w0.gate = asyncio.Event()
        asked = asyncio.create_task(ask(bench, "/api/create", model="new", **{"from": "count"}))
        await until(lambda: "w0" in w0.store.changing, "the creation began")
        await w0.stop()
        _, lines = await asked
        assert lines[-1] == {"error": "worker w0 broke off"}
        assert w1.done == []


# Joining ------------------------------------------------------------------------------


async def test_two_pulls_of_one_model_are_one(tmp_path: Path) -> None:
    """The second client sees at once how far it is, whatever it calls the model."""
    worker = StoreWorker("w0", gates={500: asyncio.Event()})
    async with gateway(tmp_path, worker) as bench:
        first = asyncio.create_task(ask(bench, "/api/pull", model="new"))
        await until(lambda: worker.store.fetched == 500, "half of it is there")
        second = await bench.http.post(bench.url + "/api/pull", json={"name": "library/NEW:latest"})
        assert json.loads(await second.content.readline()) == {"status": "pulling manifest"}
        assert json.loads(await second.content.readline())["completed"] == 250
        first.cancel()
        worker.gates[500].set()
        rest = [json.loads(line) for line in (await second.text()).splitlines()]
        assert_reads_like_one_server(rest)
        assert [worker.done, worker.abandoned] == [["pull new:latest"], 0]


async def test_a_pull_that_nobody_follows_any_more_is_given_up(tmp_path: Path) -> None:
    """As Ollama does; what is there stays for the next one."""
    worker = StoreWorker("w0", gates={500: asyncio.Event()})
    async with gateway(tmp_path, worker) as bench:
        asked = asyncio.create_task(ask(bench, "/api/pull", model="new"))
        await until(lambda: worker.store.fetched == 500, "half of it is there")
        asked.cancel()
        await until(lambda: worker.abandoned == 1, "the worker was told")
        worker.gates[500].set()
        _, lines = await ask(bench, "/api/pull", model="new")
        assert lines[1]["completed"] >= 500
        assert lines[-1] == SUCCESS


async def test_without_a_stream_one_object_tells_the_end(tmp_path: Path) -> None:
    """`stream: false` is answered when all is done."""
    async with gateway(tmp_path, StoreWorker("w0")) as bench:
        assert await ask(bench, "/api/pull", model="new", stream=False) == (200, [SUCCESS])


# Several stores -----------------------------------------------------------------------


async def test_every_store_gets_what_is_pulled_and_one_progress_is_told(tmp_path: Path) -> None:
    """A client of one server can read it."""
    near, far = of_two_stores()
    async with gateway(tmp_path, near, far) as bench:
        _, lines = await ask(bench, "/api/pull", model="new")
        assert_reads_like_one_server(lines)
        assert near.done == far.done == ["pull new:latest"]


async def test_what_fails_at_one_store_says_where_and_goes_on_at_the_others(tmp_path: Path) -> None:
    """An error at the end, and no success."""
    near, far = of_two_stores()
    far.error = "no space left on device"
    async with gateway(tmp_path, near, far) as bench:
        _, lines = await ask(bench, "/api/pull", model="new")
        assert lines[-1] == {"error": "far: no space left on device (done on near)"}
        assert SUCCESS not in lines
        assert near.done == ["pull new:latest"]


async def test_a_model_is_deleted_in_every_store_that_has_it(tmp_path: Path) -> None:
    """Where it is not, nobody is asked."""
    near, far = of_two_stores()
    near.store.models["mine:latest"] = "mine"
    async with gateway(tmp_path, near, far) as bench:
        assert await ask(bench, "/api/delete", "DELETE", model="mine") == (200, [])
        assert [near.done, far.done] == [["delete mine:latest"], []]
        assert await ask(bench, "/api/delete", "DELETE", model="count") == (200, [])
        assert await names(bench) == {"other:latest"}


async def test_a_model_is_pushed_from_one_store(tmp_path: Path) -> None:
    """Twice would be once too often; the answer names the worker."""
    near, far = of_two_stores()
    async with (
        gateway(tmp_path, near, far) as bench,
        bench.http.post(f"{bench.url}/api/push", json={"model": "count"}) as response,
    ):
        lines = (await response.text()).splitlines()
        assert [json.loads(line) for line in lines] == [{"status": "retrieving manifest"}, SUCCESS]
        assert response.headers["X-Corral-Worker"] == "near"
        assert [near.done, far.done] == [["push count:latest"], []]


async def test_a_worker_that_is_not_there_is_left_out_of_a_pull(tmp_path: Path) -> None:
    """The others get the model, and who asked is told."""
    near, far = of_two_stores()
    async with gateway(tmp_path, near, far) as bench:
        await until_ready(bench, 2)
        bench.snapshots.publish(near.status(), far.status(state=WorkerState.BACKOFF, base_url=""))
        await until_ready(bench, 1)
        _, lines = await ask(bench, "/api/pull", model="new")
        assert lines[0] == {"status": "left out: far is not there"}
        assert lines[-1] == SUCCESS
        status, answer = await ask(bench, "/api/delete", "DELETE", model="count")
        assert (status, answer[0]["error"][:18]) == (503, "far: is not there;")
        assert near.done == ["pull new:latest", "delete count:latest"]


async def test_a_worker_that_cannot_pull_says_so(tmp_path: Path) -> None:
    """It answers inference, and has no store that could be changed."""
    async with gateway(tmp_path, FakeOllama("plain")) as bench:
        status, answer = await ask(bench, "/api/pull", model="new")
        assert status == 501
        assert answer == [{"error": "does not take POST /api/pull: 404: Not Found"}]


# What is loaded -----------------------------------------------------------------------


async def test_a_loaded_model_leaves_memory_before_it_is_deleted(tmp_path: Path) -> None:
    """The fake takes offence at anything else. Its last answer ends well; who waits hears a clean 404."""
    worker = StoreWorker("w0", slots=1)
    worker.script.extend(["hold"])
    async with gateway(tmp_path, worker) as bench:
        answered = asyncio.create_task(bench.post())
        await until(lambda: bool(worker.running), "an answer is under way")
        waiting = asyncio.create_task(bench.post())
        deleted = asyncio.create_task(ask(bench, "/api/delete", "DELETE", model="count"))
        refused = await waiting
        unknown = await bench.post(model="missing")
        assert refused.status == 404
        assert refused.text == unknown.text.replace("missing", "count")
        assert "count:latest" not in await names(bench)
        assert worker.done == []
        worker.hold.set()
        assert (await answered).status == 200
        assert await deleted == (200, [])
        assert worker.done == ["delete count:latest"]
        assert (await bench.post()).status == 404


async def test_a_deletion_that_waits_is_carried_out_by_the_next_gateway(tmp_path: Path) -> None:
    """The model computes an answer, and only the next gateway can have it unloaded when that has ended."""
    (worker,) = workers = [StoreWorker("w0", store=StoreOnDisk())]
    worker.script.append("hold")
    async with gateway(tmp_path, *workers) as bench:
        asked = asyncio.create_task(ask(bench, "/api/generate", model="count", prompt="hello"))
        await until(lambda: bool(worker.running), "an answer")
        deleted = asyncio.create_task(ask(bench, "/api/delete", "DELETE", model="count"))
        async with asyncio.timeout(10):
            while "count:latest" in await names(bench):  # noqa: ASYNC110 -- another program's state has no event
                await asyncio.sleep(0.01)
        async with bench.another():
            worker.hold.set()
            assert (await asked)[0] == 200
            async with asyncio.timeout(10):
                assert await deleted == (200, [])
            assert await names(bench) == {"other:latest"}
        assert worker.done == ["delete count:latest"]


async def test_a_model_that_is_replaced_keeps_a_second_name_until_it_is_out_of_memory(tmp_path: Path) -> None:
    """Its worker can unload it by that name only; no client ever sees it."""
    worker = StoreWorker("w0")
    async with gateway(tmp_path, worker) as bench:
        await ask(bench, "/api/copy", source="other", destination="count")
        await until(lambda: len(worker.done) == 3, "the second name is gone again")
        second = worker.done[0].removeprefix("copy ")
        assert second.startswith("corral-outgoing/")
        assert worker.done == [f"copy {second}", "copy count:latest", f"delete {second}"]
        assert await names(bench) == {"count:latest", "other:latest"}


async def test_a_second_name_is_not_removed_while_something_is_done_to_the_store(tmp_path: Path) -> None:
    """An Ollama that looks through its names fails with a file that has vanished."""
    worker = StoreWorker("w0", gate=asyncio.Event())
    assert worker.gate is not None
    async with gateway(tmp_path, worker) as bench:
        creation = asyncio.create_task(ask(bench, "/api/create", model="made", **{"from": "other"}))
        await until(lambda: bool(worker.store.changing), "a model is being made")
        assert await ask(bench, "/api/copy", source="other", destination="count") == (200, [])
        second = worker.done[0].removeprefix("copy ")
        assert await names(bench) == {"count:latest", "other:latest"}
        assert await ask(bench, "/api/copy", source="other", destination="more") == (200, [])
        worker.gate.set()
        assert (await creation)[0] == 200
        await until(lambda: len(worker.done) == 5, "the second name is gone")
    assert worker.done == [
        f"copy {second}",
        "copy count:latest",
        "copy more:latest",
        "create made:latest",
        f"delete {second}",
    ]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/copy", {"source": "other", "destination": "count"}),
        ("/api/create", {"model": "count", "from": "other"}),
        ("/api/pull", {"model": "count"}),
    ],
)
async def test_who_waits_for_a_model_that_is_replaced_gets_the_new_one(
    tmp_path: Path, path: str, body: dict[str, str]
) -> None:
    """With the place that it had; as whoever asks for the name later does."""
    worker = StoreWorker("w0", slots=1)
    worker.script.append("hold")
    async with gateway(tmp_path, worker) as bench:
        answered = asyncio.create_task(bench.post())
        await until(lambda: bool(worker.running), "an answer is under way")
        waiting = asyncio.create_task(bench.post(prompt="waits"))
        await until(lambda: bool(bench.waiting()), "the other waits")
        assert (await ask(bench, path, **body))[0] == 200
        later = asyncio.create_task(bench.post(prompt="comes later"))
        await until(lambda: len(bench.waiting()) == 2, "both wait for the new one")
        worker.hold.set()
        answers = await asyncio.gather(answered, waiting, later)
        await until(lambda: worker.done[-1].startswith("delete"), "the second name is gone again")
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert [one["body"]["prompt"] for one in worker.served] == ["hello", "waits", "comes later"]
    assert worker.loads == ["count", "count"]


async def test_second_names_that_a_killed_gateway_left_are_deleted(tmp_path: Path) -> None:
    """Nobody else would."""
    worker = StoreWorker("w0")
    worker.store.models["corral-outgoing/abc:def"] = "old"
    async with gateway(tmp_path, worker) as bench:
        assert await names(bench) == {"count:latest", "other:latest"}
        await until(lambda: worker.done == ["delete corral-outgoing/abc:def"], "it is gone")


# What the configuration says ------------------------------------------------------------


async def test_what_the_file_wants_kept_is_not_deleted(tmp_path: Path) -> None:
    """The file would want what is not there; whoever deletes it has to change the file first."""
    worker = StoreWorker("w0")
    async with gateway(tmp_path, worker, wishes={"count": ModelConfig(pin=True)}) as bench:
        status, answer = await ask(bench, "/api/delete", "DELETE", model="count")
        assert status == 409
        assert "take that out of the file first" in answer[0]["error"]


async def test_an_alias_is_pulled_as_what_it_stands_for_and_never_made_or_deleted(tmp_path: Path) -> None:
    """A registry knows no aliases, and a model behind one would never be seen."""
    worker = StoreWorker("w0")
    wishes = {"real": ModelConfig(aliases=("gpt-4o-mini",))}
    async with gateway(tmp_path, worker, wishes=wishes) as bench:
        await ask(bench, "/api/pull", model="gpt-4o-mini")
        assert worker.done == ["pull real:latest"]
        for path, body in (("/api/copy", {"source": "count", "destination": "gpt-4o-mini"}),):
            assert (await ask(bench, path, **body))[0] == 409
        assert (await ask(bench, "/api/delete", "DELETE", model="gpt-4o-mini"))[0] == 409


# Blobs --------------------------------------------------------------------------------


async def pieces(count: int, piece: bytes, sent: list[int]) -> AsyncIterator[bytes]:
    """Yield a body and note how much of it was taken."""
    for _ in range(count):
        yield piece
        sent.append(len(piece))


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_blob_of_any_size_goes_to_every_store_that_lacks_it(tmp_path: Path, *, chunked: bool) -> None:
    """The limit for bodies is not for blobs."""
    near, far = of_two_stores()
    body = bytes(range(256)) * 4096
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    far.store.blobs[digest] = len(body)
    config = GatewayConfig(max_body_size="1KiB")  # type: ignore[arg-type]  # as the file has it
    async with gateway(tmp_path, near, far, config=config) as bench:
        url = f"{bench.url}/api/blobs/{digest}"
        assert (await bench.http.head(url)).status == 404
        data = pieces(16, body[: len(body) // 16], []) if chunked else body
        assert (await bench.http.post(url, data=data)).status == 201
        assert [near.done, far.done] == [[f"blob {digest}"], []]
        assert near.store.blobs[digest] == len(body)
        assert (await bench.http.head(url)).status == 200
        assert (await bench.http.post(url, data=b"again")).status == 200


async def test_a_blob_is_read_no_faster_than_the_slowest_store_takes_it(tmp_path: Path) -> None:
    """Or the gateway would hold it whole."""
    near, far = of_two_stores()
    far.slow = asyncio.Event()
    piece, sent, hashed = bytes(2**20), list[int](), hashlib.sha256()
    for _ in range(64):
        hashed.update(piece)
    digest = f"sha256:{hashed.hexdigest()}"
    async with gateway(tmp_path, near, far) as bench:
        posted = asyncio.create_task(
            bench.http.post(f"{bench.url}/api/blobs/{digest}", data=pieces(64, piece, sent))
        )
        await until(lambda: len(sent) > 0, "the client sends")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(posted), 0.5)
        assert len(sent) < 40, "far more than buffers hold was read"
        far.slow.set()
        assert (await posted).status == 201


async def test_a_blob_with_another_content_is_refused_as_the_worker_does(tmp_path: Path) -> None:
    """The text is the worker's."""
    async with gateway(tmp_path, StoreWorker("w0")) as bench:
        wrong = "sha256:" + "0" * 64
        response = await bench.http.post(f"{bench.url}/api/blobs/{wrong}", data=b"x")
        assert response.status == 400
        assert (await response.json())["error"].startswith(f'digest mismatch, expected "{wrong}"')
        response = await bench.http.post(f"{bench.url}/api/blobs/foo", data=b"x")
        assert (response.status, await response.json()) == (400, {"error": "invalid digest format"})


async def test_an_upload_that_breaks_off_is_no_blob(tmp_path: Path) -> None:
    """A part must never be taken for the whole."""
    worker = StoreWorker("w0")
    async with gateway(tmp_path, worker) as bench:

        async def cut() -> AsyncIterator[bytes]:
            yield b"x"
            raise ConnectionResetError

        digest = f"sha256:{hashlib.sha256(b'x').hexdigest()}"
        with pytest.raises(Exception):  # noqa: B017, PT011 -- whatever the client makes of it
            await bench.http.post(f"{bench.url}/api/blobs/{digest}", data=cut())
        assert (await bench.http.head(f"{bench.url}/api/blobs/{digest}")).status == 404


# Ollama's own words -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/pull", {}, 400, "invalid model name"),
        ("/api/pull", {"model": "a/b/c/d"}, 400, "invalid model name"),
        (
            "/api/pull",
            {"model": 5},
            400,
            "json: cannot unmarshal number into Go struct field PullRequest.model of type string",
        ),
        ("/api/push", {}, 400, "model is required"),
        ("/api/create", {}, 400, "invalid model name"),
        ("/api/create", {"model": "x"}, 400, "neither 'from' or 'files' was specified"),
        ("/api/copy", {}, 400, 'source "" is invalid'),
        ("/api/copy", {"source": "a", "destination": "b c"}, 400, 'destination "b c" is invalid'),
        ("/api/copy", {"source": "nope", "destination": "b"}, 404, 'model "nope" not found'),
        ("/api/delete", {}, 400, "model is required"),
        ("/api/delete", {"model": "a b"}, 400, 'name "a b" is invalid'),
        ("/api/delete", {"model": "nope"}, 404, "model 'nope' not found"),
    ],
)
async def test_bad_requests_are_answered_as_ollama_does(
    tmp_path: Path, path: str, body: dict[str, Any], status: int, text: str
) -> None:
    """Recorded from a real one."""
    method = "DELETE" if path == "/api/delete" else "POST"
    async with gateway(tmp_path, StoreWorker("w0")) as bench:
        assert await ask(bench, path, method, **body) == (status, [{"error": text}])
