"""One gateway takes another's place, before strict workers that count their slots: what each client sees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from gateway.handover.lines import TAKE, decode_estate
from supervisor.contract.config import SchedulingConfig
from tests.support.fake_ollama import FakeOllama
from tests.support.gateway import DEADLINE_S, Bench, gateway, until


async def ask(bench: Bench, name: str = "", **changes: Any) -> tuple[int, list[Any], str]:
    """Send one request on a connection of its own; return status, whether each frame was the last, worker."""
    body = {"model": "count", "prompt": "hello", **changes}
    headers = {"X-Request-Id": name} if name else {}
    async with bench.http.post(f"{bench.url}/api/generate", json=body, headers=headers) as response:
        frames = [json.loads(line) for line in (await response.text()).splitlines()]
        return response.status, [frame["done"] for frame in frames], response.headers["X-Corral-Worker"]


async def operator(bench: Bench, what: str) -> Any:
    """Ask the operator's socket, which the newest gateway answers."""
    connector = aiohttp.UnixConnector(bench.admin_socket)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"http://corral/corral/{what}") as response,
    ):
        return await response.json()


async def until_waiting(bench: Bench, count: int) -> list[str]:
    """Return who waits in the newest gateway, in the order of their turns, once there are so many."""
    async with asyncio.timeout(DEADLINE_S):
        while len(rows := (await operator(bench, "queue"))["waiting"]) != count:  # noqa: ASYNC110 -- as from outside
            await asyncio.sleep(0.01)
    return [row["id"] for row in rows]


async def busy(bench: Bench) -> int:
    """Return how many slots the newest gateway counts as taken."""
    workers = (await operator(bench, "fleet"))["workers"]
    return sum(model["busy"] for worker in workers for model in worker["resident"])


DONE = [False, True]


async def test_slots_that_the_old_gateways_answers_hold_are_given_to_nobody(tmp_path: Path) -> None:
    """The worker notes as an offence what it computes beyond its slots."""
    worker = FakeOllama("w0", slots=2)
    worker.script.extend(["hold", "hold"])
    async with gateway(tmp_path, worker) as bench:
        old = [asyncio.create_task(ask(bench)) for _ in range(2)]
        await until(lambda: len(worker.running) == 2, "two answers run")
        async with bench.another():
            assert await busy(bench) == 2
            new = [asyncio.create_task(ask(bench)) for _ in range(2)]
            await until_waiting(bench, 2)
            worker.hold.set()
            answers = await asyncio.gather(*old, *new)
            assert await busy(bench) == 0
    assert answers == [(200, DONE, "w0")] * 4
    assert (worker.most_at_once, worker.loads) == (2, ["count"])


async def test_each_slot_is_the_new_gateways_as_soon_as_the_old_ones_answer_ends(tmp_path: Path) -> None:
    """Also when the client of that answer just leaves."""
    workers = FakeOllama("w0", slots=1), FakeOllama("w1", slots=1)
    for worker in workers:
        worker.script.append("hold")
    async with gateway(tmp_path, *workers) as bench:
        old = [asyncio.create_task(ask(bench)) for _ in workers]
        await until(lambda: all(worker.running for worker in workers), "both workers compute")
        async with bench.another():
            new = [asyncio.create_task(ask(bench)) for _ in workers]
            await until_waiting(bench, 2)
            workers[1].hold.set()
            first, _ = await asyncio.wait(new, return_when=asyncio.FIRST_COMPLETED)
            assert first.pop().result() == (200, DONE, "w1")
            for task in old:
                task.cancel()
            assert [(await task)[0] for task in new] == [200, 200]
    assert [worker.most_at_once for worker in workers] == [1, 1]


async def test_who_waits_in_the_old_gateway_is_answered_by_the_new_one_in_turn(tmp_path: Path) -> None:
    """With the place that it had: before one that came to the new gateway, though its queue is full."""
    worker = FakeOllama("w0", slots=1)
    worker.script.append("hold")
    async with gateway(tmp_path, worker, max_queue=2) as bench:
        running = asyncio.create_task(ask(bench, "running"))
        await until(lambda: bool(worker.running), "one answer runs")
        waiting = [asyncio.create_task(ask(bench, "first"))]
        await until_waiting(bench, 1)
        waiting.append(asyncio.create_task(ask(bench, "second", stream=False)))
        await until_waiting(bench, 2)
        async with bench.another():
            assert await until_waiting(bench, 2) == ["first", "second"]
            worker.hold.set()
            answers = await asyncio.gather(running, *waiting)
    assert answers == [(200, DONE, "w0")] * 3
    served = [request["headers"]["x-request-id"] for request in worker.served]
    assert served == ["running", "first", "second"]


async def test_a_connection_that_the_client_kept_open_is_answered_and_then_closed(tmp_path: Path) -> None:
    """There is no moment at which a request on it would meet a closed door."""
    worker = FakeOllama("w0", slots=1)
    async with gateway(tmp_path, worker) as bench, aiohttp.ClientSession() as http:
        async with http.get(f"{bench.url}/api/version") as response:
            assert "Connection" not in response.headers
        async with bench.another(), http.post(f"{bench.url}/api/embed", data=b"{}") as response:
            assert (response.status, response.headers["Connection"]) == (404, "close")
            asked = response.headers["X-Request-Id"]
        assert asked


async def test_three_in_a_row_count_what_the_first_still_computes(tmp_path: Path) -> None:
    """Each asks all that are left, not only the one before it."""
    worker = FakeOllama("w0", slots=1)
    worker.script.append("hold")
    async with gateway(tmp_path, worker) as bench:
        old = asyncio.create_task(ask(bench))
        await until(lambda: bool(worker.running), "one answer runs")
        async with bench.another(2), bench.another(3), bench.another(4):
            assert await busy(bench) == 1
            new = asyncio.create_task(ask(bench))
            await until_waiting(bench, 1)
            worker.hold.set()
            assert [await old, await new] == [(200, DONE, "w0")] * 2
            assert await busy(bench) == 0
    assert worker.most_at_once == 1


@asynccontextmanager
async def taking(directory: Path) -> AsyncIterator[asyncio.Task[bytes]]:
    """Ask as a new gateway does, and yield what comes; at the end of the block it goes away."""
    reader, writer = await asyncio.open_unix_connection(str(directory / "handover.1.sock"))
    writer.write(TAKE)
    told = asyncio.create_task(reader.readline())
    try:
        yield told
    finally:
        writer.close()
        told.cancel()


async def test_a_load_under_way_is_waited_for_and_not_made_twice(tmp_path: Path) -> None:
    """It belongs to the connection that asked for it; until it has ended the old gateway serves."""
    worker = FakeOllama("w0")
    worker.load_gate = asyncio.Event()
    async with gateway(tmp_path, worker) as bench:
        asking = asyncio.create_task(ask(bench))
        await until(lambda: worker.loading == 1, "a load is under way")
        async with taking(tmp_path) as told:
            for _ in range(3):
                await operator(bench, "fleet")
                async with bench.http.get(f"{bench.url}/api/version") as response:
                    assert response.status == 200
            assert not told.done()
            worker.load_gate.set()
            assert b"under_way" in await told
        assert await asking == (200, DONE, "w0")
        async with bench.another():
            assert await ask(bench) == (200, DONE, "w0")
    assert worker.loads == ["count"]


async def test_no_load_begins_between_the_word_and_the_next_gateways(tmp_path: Path) -> None:
    """Two that load at once would be in each other's way; it begins when the other has gone away."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench, aiohttp.ClientSession() as http:
        async with http.get(f"{bench.url}/api/version") as response:
            await response.read()
        async with taking(tmp_path) as told:
            await told
            body = {"model": "count", "prompt": "hello", "stream": False}
            asking = asyncio.create_task(http.post(f"{bench.url}/api/generate", json=body))
            await until_waiting(bench, 1)
            for _ in range(3):
                await operator(bench, "fleet")
                async with bench.http.get(f"{worker.url}/api/version") as response:
                    assert response.status == 200
            assert worker.loads == []
        assert (await asking).status == 200
        (await asking).release()
    assert worker.loads == ["count"]


async def test_a_new_gateway_that_goes_away_before_it_serves_changes_nothing(tmp_path: Path) -> None:
    """Who came meanwhile waited in the listen backlog, who waits goes on waiting here."""
    worker = FakeOllama("w0", slots=1)
    worker.script.append("hold")
    async with gateway(tmp_path, worker) as bench:
        old = [asyncio.create_task(ask(bench))]
        await until(lambda: bool(worker.running), "one answer runs")
        old.append(asyncio.create_task(ask(bench)))
        await until_waiting(bench, 1)
        async with taking(tmp_path) as told:
            estate = decode_estate(await told, asyncio.get_running_loop().time())
            assert [str(way.instance) for way in estate.under_way] == ["w0#1"]
            old.append(asyncio.create_task(ask(bench)))
        worker.hold.set()
        assert await asyncio.gather(*old) == [(200, DONE, "w0")] * 3
    assert worker.most_at_once == 1


async def test_the_old_gateway_loads_and_unloads_nothing_any_more(tmp_path: Path) -> None:
    """A model whose time is over there leaves by the new gateway's word."""
    worker = FakeOllama("w0", slots=2)
    async with gateway(tmp_path, worker, keep_alive_s=0.2) as bench:
        assert (await ask(bench))[0] == 200
        async with bench.another():
            assert (await ask(bench, model="other"))[0] == 200
            await bench.until_resident()
    assert worker.loads == ["count", "other"]
    assert worker.loaded == set()


async def test_a_variant_that_a_request_brought_is_known_to_the_new_gateway(tmp_path: Path) -> None:
    """Lists tell only a context, so it would be taken for another one with the same, and loaded again."""
    worker = FakeOllama("w0", slots=2)
    passing = SchedulingConfig(context="pass")
    async with gateway(tmp_path, worker, scheduling=passing) as bench:
        for options in ({"num_ctx": 32}, {"num_ctx": 32, "num_batch": 8}):
            assert (await ask(bench, options=options))[0] == 200
        async with bench.another():
            assert (await ask(bench, options={"num_ctx": 32, "num_batch": 8}))[0] == 200
    assert worker.loads == ["count", "count"]


async def test_such_a_variant_can_be_unloaded_by_the_new_gateway(tmp_path: Path) -> None:
    """Though nobody has asked it for the model."""
    worker = FakeOllama("w0", slots=2)
    passing = SchedulingConfig(context="pass")
    async with gateway(tmp_path, worker, scheduling=passing) as bench:
        assert (await ask(bench, options={"num_ctx": 32, "num_batch": 8}))[0] == 200
        async with bench.another():
            assert (await ask(bench, model="other"))[0] == 200
            assert worker.loaded == {"other"}
