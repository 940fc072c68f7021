"""What clients see of `gateway.failover: continue`, at every place where a stream can break off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.contract.config import GatewayConfig, ModelConfig
from supervisor.contract.fleet import WorkerState
from tests.support.counting_worker import ROUTES, CountingWorker, rendered, stream
from tests.support.gateway import DEADLINE_S, Answer, Bench, gateway, until

CONTINUE = GatewayConfig(failover="continue", idle_timeout=5.0)
ALL = "1 2 3 4 5 6 7 8 9"
BODIES: dict[str, dict[str, Any]] = {
    "/api/chat": {"messages": [{"role": "user", "content": "go"}]},
    "/api/generate": {"prompt": "go"},
    "/v1/chat/completions": {
        "messages": [{"role": "system", "content": "count"}, {"role": "user", "content": "go"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "/v1/completions": {"prompt": "go", "stream": True},
    "/v1/messages": {
        "system": "count",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "go"}]}],
        "stream": True,
        "max_tokens": 50,
    },
}
TIMES = {"total_duration", "load_duration", "prompt_eval_duration", "eval_duration", "created_at"}


@asynccontextmanager
async def two(tmp_path: Path, **changes: Any) -> AsyncIterator[tuple[Bench, list[CountingWorker]]]:
    """Run two workers that hold the model, behind a gateway that goes on."""
    workers = [CountingWorker("a", slots=1), CountingWorker("b", slots=1)]
    async with gateway(tmp_path, *workers, **{"config": CONTINUE, **changes}) as bench:
        yield bench, workers


async def ask(bench: Bench, route: str, **more: Any) -> Answer:
    """Send the usual request of a route."""
    body = {"model": "count", **BODIES[route], **more}
    data = bytearray()
    async with bench.http.post(bench.url + route, json=body) as response:
        with suppress(aiohttp.ClientPayloadError):  # the stump of an answer ends so
            async for chunk in response.content.iter_any():
                data += chunk
        return Answer(response.status, data.decode(), dict(response.headers))


def events(text: str) -> list[dict[str, Any]]:
    """Return the objects of a stream."""
    lines = (line.removeprefix("data: ") for line in text.splitlines())
    return [json.loads(line) for line in lines if line.startswith("{")]


def without_the_story(text: str) -> list[dict[str, Any]]:
    """Return the objects without times, and without what an answer that went on tells of itself."""
    return [
        {name: value for name, value in one.items() if name not in {*TIMES, "corral"}} for one in events(text)
    ]


def told(route: str, body: dict[str, Any]) -> list[bytes]:
    """Return the frames of an answer that nothing breaks."""
    return stream(route, body, rendered(route, body))


def same_ids(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the objects with one id, whichever it was, after seeing that there is only one."""
    ids = {(one.get("id"), one.get("created")) for one in found if "id" in one}
    assert len(ids) <= 1
    return [{**one, **({"id": "x", "created": 0} if "id" in one else {})} for one in found]


def anonymous(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the same for messages, whose id stands inside."""
    return [
        {**one, "message": {**one["message"], "id": "x"}} if one.get("type") == "message_start" else one
        for one in same_ids(found)
    ]


@pytest.mark.parametrize("route", ROUTES)
async def test_answer_is_the_same_wherever_its_worker_breaks_off(tmp_path: Path, route: str) -> None:
    """After every frame and inside every frame, the last one included: no gap, no repetition, same counts."""
    async with two(tmp_path) as (bench, workers):
        body = {"model": "count", **BODIES[route]}
        frames = told(route, body)
        for cut in cuts_of(frames):
            for worker in workers:
                worker.cuts.clear()
                worker.asked.clear()
            first = workers[0] if workers[0].loaded or not workers[1].loaded else workers[1]
            first.cuts.append(cut)
            answer = await ask(bench, route)
            found, wanted = without_the_story(answer.text), without_the_story(b"".join(frames).decode())
            assert anonymous(found) == anonymous(wanted), f"broken off after {cut} bytes"


def cuts_of(frames: list[bytes]) -> list[int]:
    """Return every end of a frame but the last one's, and a place inside each."""
    ends = [sum(map(len, frames[:n])) for n in range(1, len(frames))]
    return [*ends, *(end + 7 for end in ends), 5]


async def test_answer_goes_on_twice_and_its_last_frame_tells(tmp_path: Path) -> None:
    """The second worker breaks off too; the first one ends it. Counts are those of the whole answer."""
    async with two(tmp_path) as (bench, workers):
        for worker in workers:
            worker.cuts.append(250)
        answer = await ask(bench, "/api/chat")
        *_, last = events(answer.text)
        assert words(answer) == ALL
        assert (last["prompt_eval_count"], last["eval_count"], last["done_reason"]) == (3, 9, "stop")
        steps = [(step["from"], step["to"]) for step in last["corral"]["continued"]]
        assert steps in ([("a", "b"), ("b", "a")], [("b", "a"), ("a", "b")])


def words(answer: Answer) -> str:
    """Return the text of a native answer."""
    said = (one.get("message", {}).get("content", one.get("response", "")) for one in events(answer.text))
    return "".join(said)


async def test_answer_that_keeps_breaking_off_is_given_up(tmp_path: Path) -> None:
    """It may be what breaks the workers: after three of them the client gets the error."""
    async with two(tmp_path) as (bench, workers):
        for worker in workers:
            worker.cuts.extend([130] * 3)
        answer = await ask(bench, "/api/chat")
        assert "could not go on elsewhere: it broke off 3 times" in events(answer.text)[-1]["error"]
        assert sum(len(worker.asked) for worker in workers) == 3
        assert words(answer) == "1 2 3"


async def test_the_only_worker_goes_on_itself(tmp_path: Path) -> None:
    """It is avoided only where there is another one."""
    worker = CountingWorker("a", slots=1)
    async with gateway(tmp_path, worker, config=CONTINUE) as bench:
        worker.cuts.append(300)
        assert words(await ask(bench, "/api/chat")) == ALL


async def test_a_limit_is_what_the_answer_may_have_in_all(tmp_path: Path) -> None:
    """The second worker may make only the rest; the reason is that of the limit."""
    async with two(tmp_path) as (bench, workers):
        for worker in workers:
            worker.cuts.append(220)
        answer = await ask(bench, "/api/chat", options={"num_predict": 5})
        assert words(answer) == "1 2 3 4 5"
        assert (events(answer.text)[-1]["done_reason"], events(answer.text)[-1]["eval_count"]) == (
            "length",
            5,
        )


async def test_a_limit_of_the_modelfile_holds_too(tmp_path: Path) -> None:
    """The request says nothing of it, and each worker by itself would begin to count anew."""
    async with two(tmp_path) as (bench, workers):
        for worker in workers:
            worker.cuts.append(220)
            worker.parameters = "num_predict                    5"
        assert words(await ask(bench, "/api/chat")) == "1 2 3 4 5"


async def test_nobody_is_asked_for_an_answer_that_is_complete(tmp_path: Path) -> None:
    """All tokens that it may have were sent, only the last frame was not."""
    async with two(tmp_path) as (bench, workers):
        frames = told("/api/chat", {"model": "count", **BODIES["/api/chat"]})
        for worker in workers:
            worker.cuts.append(len(b"".join(frames[:5])))
        answer = await ask(bench, "/api/chat", options={"num_predict": 5})
        assert words(answer) == "1 2 3 4 5"
        assert events(answer.text)[-1]["done_reason"] == "length"
        assert sum(len(worker.asked) for worker in workers) == 1


@pytest.mark.parametrize("cut", range(120, 900, 60))
async def test_a_stop_sequence_over_the_break_ends_the_answer(tmp_path: Path, cut: int) -> None:
    """A worker keeps back what may be its beginning; the next one makes that again."""
    async with two(tmp_path) as (bench, workers):
        workers[0].cuts.append(cut)
        workers[1].cuts.append(cut)
        answer = await ask(bench, "/api/chat", options={"stop": [" 5 6"]})
        assert (words(answer), events(answer.text)[-1]["done_reason"]) == ("1 2 3 4", "stop")


async def test_an_alias_stays_the_models_name(tmp_path: Path) -> None:
    """The worker is asked by the model's own name, before and after."""
    wishes = {"count": ModelConfig(aliases=("numbers",))}
    async with two(tmp_path, wishes=wishes) as (bench, workers):
        workers[0].cuts.append(200)
        workers[1].cuts.append(200)
        answer = await ask(bench, "/api/chat", model="numbers")
        assert words(answer) == ALL
        assert {one["model"] for one in events(answer.text)} == {"numbers"}
        assert {body["model"] for worker in workers for body in worker.asked} == {"count"}


async def test_an_error_in_the_stream_is_a_break_too(tmp_path: Path) -> None:
    """A server whose runner died says so in a frame; the client does not see it when another goes on."""
    async with two(tmp_path) as (bench, workers):
        for worker in workers:
            worker.cuts.append(
                len(b"".join(told("/api/chat", {"model": "count", **BODIES["/api/chat"]})[:3]))
            )
            worker.says_instead = b'{"error":"runner terminated"}\n'
        answer = await ask(bench, "/api/chat")
        assert words(answer) == ALL
        assert "error" not in answer.text


async def test_tokens_of_a_native_answer_are_told_at_its_end(tmp_path: Path) -> None:
    """Clients of generate send `context` back, so it must not be missing; a raw answer never has it."""
    async with two(tmp_path) as (bench, workers):
        for worker in workers:
            worker.cuts.append(150)
        assert events((await ask(bench, "/api/generate")).text)[-1]["context"] == [1, 2]
        for worker in workers:
            worker.cuts.clear()
            worker.cuts.append(150)
        assert "context" not in events((await ask(bench, "/api/generate", raw=True)).text)[-1]


async def test_it_goes_before_those_who_have_nothing_yet(tmp_path: Path) -> None:
    """Its client waits in the middle of a sentence: the next free slot is its."""
    gates = {1: asyncio.Event(), 2: asyncio.Event()}
    async with two(tmp_path) as (bench, workers):
        for worker in workers:
            worker.gates = gates
            worker.cuts.append(200)
        asking = [asyncio.create_task(ask(bench, "/api/chat", options={"seed": 1}))]
        await until(lambda: any(worker.asked for worker in workers), "an answer has begun")
        dying, living = sorted(workers, key=lambda worker: not worker.asked)
        living.cuts.clear()
        asking.append(asyncio.create_task(ask(bench, "/api/chat", options={"seed": 2})))
        await until(lambda: bool(living.asked), "the other worker is busy")
        bench.snapshots.publish(living.status(), dying.status(state=WorkerState.STOPPING))
        asking.append(asyncio.create_task(ask(bench, "/api/chat", options={"seed": 3})))
        await until_waiting(bench, 1)
        gates[1].set()
        await until_waiting(bench, 2)
        gates[2].set()
        assert [words(one) for one in await asyncio.gather(*asking)] == [ALL] * 3
        assert [body["options"]["seed"] for body in living.asked] == [2, 1, 3]


async def until_waiting(bench: Bench, requests: int) -> None:
    """Wait until so many stand in line."""
    connector = aiohttp.UnixConnector(bench.admin_socket)
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession(connector=connector) as session:
        while True:
            async with session.get("http://corral/corral/queue") as response:
                if len((await response.json())["waiting"]) == requests:
                    return


CANNOT: dict[str, tuple[str, dict[str, Any], str]] = {
    "tools": ("/api/chat", {"tools": [{"type": "function"}]}, "call tools"),
    "format": ("/api/generate", {"format": "json"}, "held to a format"),
    "images": ("/api/generate", {"images": ["aGk="]}, "has images"),
    "logprobs": ("/v1/chat/completions", {"logprobs": True}, "log probabilities"),
    "choices": ("/v1/chat/completions", {"n": 2}, "several answers"),
    "stops": ("/v1/messages", {"stop_sequences": ["x"]}, "which stop sequence"),
}


@pytest.mark.parametrize("case", CANNOT)
async def test_what_cannot_go_on_ends_with_an_error_that_says_why(tmp_path: Path, case: str) -> None:
    """The words so far, then the surface's own error frame."""
    route, more, why = CANNOT[case]
    async with two(tmp_path) as (bench, workers):
        for worker in workers:
            worker.cuts.append(500)
        answer = await ask(bench, route, **more)
        assert why in str(events(answer.text)[-1]["error"])
        assert sum(len(worker.asked) for worker in workers) == 1


MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "thinks": ({"capabilities": ["completion", "thinking"]}, "thinks before it answers"),
    "parser": ({"parser": "qwen3"}, "only in part"),
    "modelfile": ({"modelfile": "FROM x\nPARSER harmony\n"}, "only in part"),
    "family": ({"details": {"family": "gptoss"}}, "only in part"),
}


@pytest.mark.parametrize("case", MODELS)
async def test_a_model_whose_answers_are_taken_apart_cannot_go_on(tmp_path: Path, case: str) -> None:
    """What the client has is then not what the model said."""
    shown, why = MODELS[case]
    async with two(tmp_path) as (bench, workers):
        for worker in workers:
            worker.cuts.append(300)
            worker.shown = shown
        answer = await ask(bench, "/api/chat")
        assert why in events(answer.text)[-1]["error"]


async def test_a_model_that_is_told_not_to_think_can_go_on(tmp_path: Path) -> None:
    """Then its answers are what it says."""
    async with two(tmp_path) as (bench, workers):
        for worker in workers:
            worker.cuts.append(300)
            worker.shown = {"capabilities": ["completion", "thinking"]}
        assert words(await ask(bench, "/api/chat", think=False)) == ALL


async def test_an_answer_that_fills_the_context_ends_with_the_workers_error(tmp_path: Path) -> None:
    """It is never cut in silence."""
    async with two(tmp_path) as (bench, workers):
        for worker in workers:
            worker.cuts.append(300)
        answer = await ask(bench, "/api/chat", messages=[{"role": "user", "content": "x" * 475}])
        assert "exceeds the context length" in events(answer.text)[-1]["error"]


async def test_a_server_too_old_to_render_cannot_go_on(tmp_path: Path) -> None:
    """It would answer instead; nothing of that reaches the client."""
    async with two(tmp_path) as (bench, workers):
        for worker in workers:
            worker.cuts.append(300)
            worker.renders = False
        answer = await ask(bench, "/api/chat")
        assert "does not tell how it renders" in events(answer.text)[-1]["error"]


async def test_by_default_the_client_gets_the_error_at_once(tmp_path: Path) -> None:
    """Nothing goes on before it is asked for."""
    async with two(tmp_path, config=GatewayConfig()) as (bench, workers):
        for worker in workers:
            worker.cuts.append(300)
        answer = await ask(bench, "/api/chat")
        assert "broke off" in events(answer.text)[-1]["error"]
        assert sum(len(worker.asked) for worker in workers) == 1


async def test_what_breaks_off_in_its_first_frame_is_made_again_by_default(tmp_path: Path) -> None:
    """Nothing of it was sent, so that it is a request like any other."""
    async with two(tmp_path, config=GatewayConfig()) as (bench, workers):
        for worker in workers:
            worker.cuts.append(20)
        assert words(await ask(bench, "/api/chat")) == ALL


async def test_nobody_waits_longer_than_for_a_piece_of_an_answer(tmp_path: Path) -> None:
    """No worker comes back: the error comes after `idle_timeout`."""
    config = GatewayConfig(failover="continue", idle_timeout=0.5)
    gate = asyncio.Event()
    async with two(tmp_path, config=config) as (bench, workers):
        for worker in workers:
            worker.cuts.append(300)
            worker.gates = {1: gate}
        asking = asyncio.create_task(ask(bench, "/api/chat", options={"seed": 1}))
        await until(lambda: any(worker.asked for worker in workers), "the answer has begun")
        bench.snapshots.publish()
        await bench.until_resident()
        gate.set()
        assert "could not go on elsewhere" in events((await asking).text)[-1]["error"]
