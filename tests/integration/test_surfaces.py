"""Every surface through the real gateway, before workers that speak it as the real servers do."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.contract.config import ModelConfig
from tests.support.fake_ollama import FakeOllama
from tests.support.gateway import Answer, Bench, gateway, until
from tests.support.speaking_worker import OF_EMBEDDED, OF_OLLAMA, TOOL_ARGUMENTS, SpeakingWorker

ALIAS = {"count": ModelConfig(aliases=("gpt-4o-mini",))}
STREAMED = ("/api/generate", "/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses")
RERANKED = ("/v1/rerank", "/v1/reranking", "/v2/rerank", "/rerank", "/reranking")


def embedded(name: str = "w0", **changes: Any) -> SpeakingWorker:
    """Return a worker that speaks what our own engine does."""
    return SpeakingWorker(name, inference_routes=OF_EMBEDDED, engine="embedded", **changes)


def events(text: str) -> list[dict[str, Any]]:
    """Return the objects of a stream, of lines or of events."""
    lines = (line.removeprefix("data: ") for line in text.splitlines())
    return [json.loads(line) for line in lines if line.startswith("{")]


def names(value: dict[str, Any]) -> list[str]:
    """Return the models that an answer says it is of."""
    carried = [value.get("message"), value.get("response")]
    named = [value, *(inner for inner in carried if isinstance(inner, dict))]
    return [inner["model"] for inner in named if "model" in inner]


async def transcribe(bench: Bench, model: str = "count", **headers: str) -> Answer:
    """Send a form as the `openai` package does."""
    form = aiohttp.FormData()
    form.add_field("model", model)
    form.add_field("file", b"RIFF\r\n--not a boundary" * 1000, filename="a.wav", content_type="audio/wav")
    form.add_field("language", "en")
    async with bench.http.post(
        f"{bench.url}/v1/audio/transcriptions", data=form, headers=headers
    ) as response:
        return Answer(response.status, await response.text(), dict(response.headers))


@pytest.mark.parametrize("route", STREAMED)
async def test_streams_pass_byte_for_byte(tmp_path: Path, route: str) -> None:
    """Frames, events and usage reach the client as the worker wrote them."""
    worker = SpeakingWorker("w0")
    async with gateway(tmp_path, worker) as bench:
        answer = await bench.post(route, stream=True)
    again = SpeakingWorker("w0")
    await again.start()
    async with aiohttp.ClientSession() as http:
        again.loaded.add("count")
        async with http.post(again.url + route, json={"model": "count", "stream": True}) as response:
            straight = await response.text()
    await again.stop()
    assert (answer.status, answer.text) == (200, straight)


@pytest.mark.parametrize("asked", ["gpt-4o-mini", "GPT-4o-Mini:latest"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("route", [*STREAMED, "/v1/rerank"])
async def test_answers_name_the_model_as_it_was_asked_for(
    tmp_path: Path,
    route: str,
    stream: bool,  # noqa: FBT001 -- parameters of the table
    asked: str,
) -> None:
    """An alias comes back, in each frame; tools' arguments stay, and the length is told right."""
    worker = embedded()
    async with gateway(tmp_path, worker, wishes=ALIAS) as bench:
        answer = await bench.post(route, model=asked, stream=stream)
    assert worker.served[0]["body"]["model"] == "count"
    frames = events(answer.text)
    told = [name for frame in frames for name in names(frame)]
    assert (answer.status, set(told)) == (200, {asked})
    if not stream or route == "/v1/rerank":
        assert int(answer.headers["Content-Length"]) == len(answer.text)
    elif route in {"/api/chat", "/v1/messages"}:
        assert json.dumps(TOOL_ARGUMENTS).replace(" ", "") in answer.text.replace(" ", "")


@pytest.mark.parametrize("asked", ["count", "COUNT", "count:latest", "library/count"])
async def test_workers_are_told_the_name_as_it_was_written(tmp_path: Path, asked: str) -> None:
    """They echo it themselves, so that nothing of the answer has to be touched."""
    worker = SpeakingWorker("w0", tolerant=True)
    async with gateway(tmp_path, worker) as bench:
        answer = await bench.post("/v1/messages", model=asked, stream=True)
    assert worker.served[0]["body"]["model"] == asked
    assert names(events(answer.text)[0]) == [asked]


@pytest.mark.parametrize("failure", ["cut", "cut in a frame", "end early"])
@pytest.mark.parametrize("asked", ["count", "gpt-4o-mini"])
@pytest.mark.parametrize("route", STREAMED)
async def test_stream_that_breaks_off_ends_with_an_error_of_its_own(
    tmp_path: Path, route: str, asked: str, failure: str
) -> None:
    """Each surface's clients see a whole error frame, and then a connection that is cut."""
    worker = SpeakingWorker("w0")
    worker.script.append(failure)
    received = bytearray()
    async with gateway(tmp_path, worker, wishes=ALIAS) as bench:
        with pytest.raises(aiohttp.ClientPayloadError):
            await collect(bench, route, asked, received)
    frames = events(received.decode())
    assert set(names(frames[0])) == {asked}
    error = frames[-1]["error"]
    assert "the worker broke off" in (error if route.startswith("/api/") else error["message"])
    ending = b"}\n" if route.startswith("/api/") else b"}\n\n"
    assert received.endswith(ending)
    if route in {"/v1/messages", "/v1/responses"}:
        assert received.splitlines()[-3:][0] == b"event: error"
        assert frames[-1]["type"] == "error"


async def collect(bench: Bench, route: str, asked: str, received: bytearray) -> None:
    """Keep what arrives of a stream until it ends or breaks."""
    ask = {"model": asked, "stream": True}
    async with bench.http.post(bench.url + route, json=ask) as response:
        async for piece in response.content.iter_any():
            received.extend(piece)


@pytest.mark.parametrize("route", RERANKED)
async def test_reranking_is_known_by_many_paths(tmp_path: Path, route: str) -> None:
    """Workers know one of them."""
    async with gateway(tmp_path, embedded()) as bench:
        answer = await bench.post(route, query="q", documents=["a", "b"])
    assert (answer.status, json.loads(answer.text)["results"][0]["index"]) == (200, 0)


async def test_tokens_are_counted_where_the_model_is(tmp_path: Path) -> None:
    """The worker needs the loaded model for it."""
    worker = embedded()
    async with gateway(tmp_path, worker) as bench:
        answer = await bench.post("/v1/messages/count_tokens", messages=[{"role": "user", "content": "x"}])
    assert (answer.status, json.loads(answer.text)) == (200, {"input_tokens": 7})
    assert worker.loads == ["count"]


@pytest.mark.parametrize("asked", ["count", "gpt-4o-mini"])
async def test_recordings_reach_the_worker_whole(tmp_path: Path, asked: str) -> None:
    """The form is the client's own but for the model's name."""
    worker = SpeakingWorker("w0")
    async with gateway(tmp_path, worker, wishes=ALIAS) as bench:
        answer = await transcribe(bench, asked)
    assert (answer.status, json.loads(answer.text)) == (200, {"text": "one"})
    body = worker.served[0]["body"]
    assert (body["model"], body["language"]) == ("count", "en")
    assert body["file"] == b"RIFF\r\n--not a boundary" * 1000


@pytest.mark.parametrize(
    ("route", "engine"),
    [
        ("/v1/messages/count_tokens", "ollama"),
        ("/v1/rerank", "ollama"),
        ("/v1/audio/transcriptions", "embedded"),
    ],
)
async def test_route_that_no_worker_speaks_is_refused_at_once(
    tmp_path: Path, route: str, engine: str
) -> None:
    """One clear 501 that says what to do, which SDKs do not try again; no worker is asked for anything."""
    worker = SpeakingWorker("w0") if engine == "ollama" else embedded()
    async with gateway(tmp_path, worker) as bench:
        answer = await (transcribe(bench) if "audio" in route else bench.post(route))
    error = json.loads(answer.text)["error"]
    assert (answer.status, answer.headers["X-Should-Retry"]) == (501, "false")
    assert f"w0 ({engine})" in error["message"]
    assert ({"ollama", "embedded"} - {engine}).pop() in error["message"]
    assert worker.loads == []


async def test_server_that_is_too_old_for_a_route_is_told_so(tmp_path: Path) -> None:
    """It says itself that it has no such page; a second request does not ask it again."""
    worker = SpeakingWorker("w0", inference_routes=OF_OLLAMA[:3])
    async with gateway(tmp_path, worker) as bench:
        for _ in range(2):
            answer = await bench.post("/v1/messages", messages=[])
            error = json.loads(answer.text)
            assert (answer.status, error["type"]) == (501, "error")
            assert "update" in error["error"]["message"]


async def test_mixed_fleet_gives_each_route_to_those_who_speak_it(tmp_path: Path) -> None:
    """Though another worker has the model loaded and idle."""
    workers = SpeakingWorker("old", loaded={"count"}), embedded("new")
    async with gateway(tmp_path, *workers) as bench:
        for route, worker in (("/v1/rerank", "new"), ("/v1/messages/count_tokens", "new")):
            answer = await bench.post(route)
            assert (answer.status, answer.headers["X-Corral-Worker"]) == (200, worker)
        answer = await transcribe(bench)
        assert (answer.status, answer.headers["X-Corral-Worker"]) == (200, "old")


async def test_who_speaks_a_route_is_waited_for(tmp_path: Path) -> None:
    """While it is busy with another model, nobody else is asked in its place."""
    old, new = SpeakingWorker("old", loaded={"count"}), embedded("new", loaded={"other"})
    new.script.append("hold")
    async with gateway(tmp_path, old, new) as bench:
        busy = asyncio.create_task(bench.post("/v1/rerank", model="other"))
        await until(lambda: bool(new.running), "the other model computes")
        waiting = asyncio.create_task(bench.post("/v1/rerank"))
        await bench.resident()  # meanwhile the gateway finds that nobody has room
        new.hold.set()
        answers = await asyncio.gather(busy, waiting)
    assert [answer.headers["X-Corral-Worker"] for answer in answers] == ["new", "new"]
    assert (old.served, new.loads) == ([], ["count"])


async def test_nothing_is_loaded_where_a_route_is_not_spoken(tmp_path: Path) -> None:
    """Though there is room, and the worker that speaks it has none."""
    old, new = SpeakingWorker("old"), embedded("new", loaded={"other"})
    new.script.append("hold")
    async with gateway(tmp_path, old, new) as bench:
        busy = asyncio.create_task(bench.post("/v1/rerank", model="other"))
        await until(lambda: bool(new.running), "the other model computes")
        waiting = asyncio.create_task(bench.post("/v1/rerank"))
        await until(lambda: bool(bench.waiting()), "it waits")
        new.hold.set()
        _, answer = await asyncio.gather(busy, waiting)
    assert (answer.status, answer.headers["X-Corral-Worker"]) == (200, "new")
    assert (old.loads, new.loads) == ([], ["count"])


async def test_who_waits_for_the_last_that_speaks_a_route_hears_when_it_goes(tmp_path: Path) -> None:
    """The same 501 as who comes later; another worker has the model all the while."""
    old, new = SpeakingWorker("old", loaded={"count"}), embedded("new", loaded={"other"}, slots=1)
    new.script.append("hold")
    async with gateway(tmp_path, old, new) as bench:
        busy = asyncio.create_task(bench.post("/v1/rerank", model="other"))
        await until(lambda: bool(new.running), "the only worker that speaks it is busy")
        waiting = asyncio.create_task(bench.post("/v1/rerank"))
        await until(lambda: bool(bench.waiting()), "it waits")
        bench.snapshots.publish(old.status())
        answer = await waiting
        later = await bench.post("/v1/rerank")
        new.hold.set()
        await busy
    assert (answer.status, later.status) == (501, 501)
    assert answer.text == later.text
    assert "old (ollama)" in answer.text


async def test_mixed_fleet_learns_which_servers_are_old(tmp_path: Path) -> None:
    """A request that found the wrong one goes on to the other, unseen by its client."""
    old = SpeakingWorker("old", inference_routes=OF_OLLAMA[:3], loaded={"count"})
    new = SpeakingWorker("new")
    async with gateway(tmp_path, old, new) as bench:
        for _ in range(3):
            answer = await bench.post("/v1/responses", input="x")
            assert (answer.status, answer.headers["X-Corral-Worker"]) == (200, "new")
    assert (old.loads, new.loads) == ([], ["count"])


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/v1/messages", b"{", 400, "invalid_request_error"),
        ("/v1/messages", b'{"max_tokens":1}', 400, "invalid_request_error"),
        ("/v1/messages", b'{"model":"nobody"}', 404, "not_found_error"),
        ("/v1/messages/batches", b"{}", 404, "not_found_error"),
        ("/v1/responses", b'{"model":"nobody"}', 404, "not_found_error"),
        ("/v1/responses", b'{"model":"count","stream":1}', 400, "invalid_request_error"),
        ("/v1/rerank", b'{"query":"x"}', 400, "invalid_request_error"),
        ("/v1/audio/transcriptions", b'{"model":"count"}', 400, "invalid_request_error"),
    ],
)
async def test_refusals_have_the_surfaces_shape(
    tmp_path: Path, path: str, body: bytes, status: int, kind: str
) -> None:
    """Status, type and a sentence."""
    async with (
        gateway(tmp_path, FakeOllama("w0")) as bench,
        bench.http.post(bench.url + path, data=body) as response,
    ):
        answer = await response.json(content_type=None)
        assert (response.status, answer["error"]["type"]) == (status, kind)
    assert answer["error"]["message"]
    if path.startswith("/v1/messages"):
        assert answer["type"] == "error"
        assert "request_id" in answer


async def test_anthropics_clients_find_the_requests_id(tmp_path: Path) -> None:
    """In the header and the body where its SDK looks."""
    async with gateway(tmp_path, FakeOllama("w0")) as bench:
        answer = await bench.post("/v1/messages", model="nobody")
    assert answer.headers["Request-Id"] == json.loads(answer.text)["request_id"]
