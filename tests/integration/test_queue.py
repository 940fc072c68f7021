"""Where a request that waits stands, and when it may begin: `corral queue`, the log and `corral explain`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.decisions.memory import UnknownRequestError
from tests.support.corral import COMMAND
from tests.support.fake_ollama import FakeOllama
from tests.support.gateway import DEADLINE_S, Bench, gateway, until
from tests.support.raw_http import head

TASK = "### Task:\nGenerate a concise title"


async def cli(bench: Bench, *argv: str) -> str:
    """Run a command against the gateway and return what it prints."""
    pipe = asyncio.subprocess.PIPE
    where = ("--runtime-dir", str(Path(bench.admin_socket).parent))
    process = await asyncio.create_subprocess_exec(COMMAND, *argv, *where, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, err) == (0, b"")
    return out.decode()


async def waiting(bench: Bench) -> list[dict[str, Any]]:
    """Who waits, as the operator's socket tells."""
    connector = aiohttp.UnixConnector(bench.admin_socket)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://corral/corral/queue") as response,
    ):
        rows: list[dict[str, Any]] = (await response.json())["waiting"]
        return rows


async def queue(bench: Bench) -> list[dict[str, Any]]:
    """Who waits, as a script reads it."""
    rows: list[dict[str, Any]] = json.loads(await cli(bench, "queue", "--json"))["waiting"]
    return rows


async def chat(bench: Bench, name: str, content: str = "hello") -> int:
    """Ask under an id and return the status."""
    body = {"model": "count", "messages": [{"role": "user", "content": content}], "stream": False}
    headers = {"X-Request-Id": name}
    async with bench.http.post(f"{bench.url}/api/chat", json=body, headers=headers) as response:
        await response.read()
        return response.status


@asynccontextmanager
async def full_worker(tmp_path: Path) -> AsyncIterator[tuple[Bench, FakeOllama, asyncio.TaskGroup]]:
    """A worker whose only slot is taken until its `hold` is set; the group waits for all who ask."""
    worker = FakeOllama("w0", slots=1)
    worker.script.append("hold")
    async with gateway(tmp_path, worker, max_queue=8) as bench, asyncio.TaskGroup() as asking:
        asking.create_task(chat(bench, "running"))
        await until(lambda: len(worker.running) == 1, "one answer runs")
        yield bench, worker, asking


async def in_line(bench: Bench, asking: asyncio.TaskGroup, name: str, content: str = "hello") -> None:
    """Let one more come and wait."""
    asking.create_task(chat(bench, name, content))
    async with asyncio.timeout(DEADLINE_S):
        while name not in {row["id"] for row in await waiting(bench)}:  # noqa: ASYNC110 -- of another process
            await asyncio.sleep(0.01)


async def test_corral_queue_shows_who_waits_in_the_order_of_turns(tmp_path: Path) -> None:
    """With what each waits for; nobody is left when all are served."""
    async with full_worker(tmp_path) as (bench, worker, asking):
        for name in ("first", "second"):
            await in_line(bench, asking, name)
        rows, words = await queue(bench), await cli(bench, "queue")
        worker.hold.set()
        async with asyncio.timeout(DEADLINE_S):
            while await waiting(bench):  # noqa: ASYNC110 -- of another process
                await asyncio.sleep(0.01)
        empty = await cli(bench, "queue")
    assert [(row["id"], row["position"], row["queued"]) for row in rows] == [
        ("first", 1, 2),
        ("second", 2, 2),
    ]
    assert {row["awaiting"] for row in rows} == {"a slot"}
    assert all(row["starts_in_s"] >= 0 and row["waited_s"] >= 0 for row in rows)
    assert "2 of 2" in words
    assert empty.strip() == "Nobody waits."


async def test_what_open_webui_asks_in_the_background_gives_way_to_people(tmp_path: Path) -> None:
    """Though it came first."""
    async with full_worker(tmp_path) as (bench, worker, asking):
        await in_line(bench, asking, "task", TASK)
        await in_line(bench, asking, "person")
        rows = await queue(bench)
        worker.hold.set()
    assert [(row["id"], row["background"]) for row in rows] == [("person", False), ("task", True)]
    bodies = [served["body"] for served in worker.served]
    asked = [body["messages"][0]["content"] for body in bodies if "messages" in body]
    assert asked == ["hello", "hello", TASK]


async def test_who_sends_slowly_does_not_come_before_those_who_were_whole_first(tmp_path: Path) -> None:
    """A wait counts from when the request was there, not from its first byte."""
    body = json.dumps({"model": "count", "prompt": "x", "stream": False}).encode()
    headers = {"Host": "localhost", "X-Request-Id": "slow", "Content-Length": str(len(body))}
    async with full_worker(tmp_path) as (bench, worker, asking):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(bench.url.rpartition(":")[2]))
        writer.write(head("POST", "/api/generate", headers) + body[:10])
        await until(lambda: has_begun(bench, "slow"), "it began to come")
        await in_line(bench, asking, "quick")
        writer.write(body[10:])
        await until(lambda: len(bench.waiting()) == 2, "both wait")
        rows = await waiting(bench)
        worker.hold.set()
        assert b" 200 " in await asyncio.wait_for(reader.readline(), DEADLINE_S)
        writer.close()
    assert [row["id"] for row in rows] == ["quick", "slow"]
    assert rows[1]["waited_s"] <= rows[0]["waited_s"]


def has_begun(bench: Bench, name: str) -> bool:
    """Whether the head of a request is there."""
    try:
        return bool(bench.served.runtime.decisions.explain(name))
    except UnknownRequestError:
        return False


async def test_explain_says_where_a_request_stands(tmp_path: Path) -> None:
    """And when it may start."""
    async with full_worker(tmp_path) as (bench, worker, asking):
        await in_line(bench, asking, "first")
        words = await cli(bench, "explain", "first")
        worker.hold.set()
    assert "It is number 1 of 1 in line; it may start in" in words


async def test_the_log_says_where_a_request_stands_when_it_begins_to_wait(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and none for those who found a free slot."""
    async with full_worker(tmp_path) as (bench, worker, asking):
        await in_line(bench, asking, "first")
        worker.hold.set()
    lines = [line for line in capsys.readouterr().out.splitlines() if "waiting" in line and "first" in line]
    assert len(lines) == 1
    assert "position=1" in lines[0]
