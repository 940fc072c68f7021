"""What clients notice when the gateway is replaced, killed or stopped under load: nothing, or an honest word.

Fails when the new gateway does not count what the old one's answers hold (`Inheritance._enter`), when those
that wait are not passed on (`Runtime.hold`), when a connection that a client keeps is closed before it is
used (`Turn`), and when the supervisor ends the old gateway before its answers have ended (`Runtime.replace`).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.support.aftermath import all_comes_back, assert_all_is_back, gateway_pid
from tests.support.corral import Corral, corral
from tests.support.gateway import until
from tests.support.load import order
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.supervisor import eventually, get

WORDS = 30
BODY = {"model": "count", "messages": [{"role": "user", "content": "go"}], "options": {"temperature": 0}}
LONG = {"model": "long", "prompt": "go", "options": {"num_predict": 1900, "temperature": 0}}


@pytest.fixture(params=ENGINES)
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Corral]:
    """A Corral of two workers, a model of short answers and one of long ones, which may take their time."""
    make_models(tmp_path)
    with corral(tmp_path, engine=request.param, gateway={"stop_timeout": 100}) as running:
        yield running


def make_models(directory: Path) -> None:
    """Write them."""
    counting_model(directory / "models", words=WORDS)
    counting_model(directory / "models", name="long", width=512, layers=6, feed_forward=2048)


@dataclass
class Crowd:
    """Clients that keep asking in every way, and what they saw."""

    url: str
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    ended: bool = False

    async def ask_on(self, session: aiohttp.ClientSession, *, stream: bool) -> None:
        """Ask until told to end."""
        while not self.ended:
            try:
                self._judge(await ask(session, self.url, stream=stream))
            except (aiohttp.ClientError, OSError, ValueError) as error:
                self.failures.append(f"stream={stream}: {error!r}")

    def _judge(self, text: str) -> None:
        self.answers += 1
        if text.split() != [str(number) for number in range(1, WORDS + 1)]:
            self.failures.append(text)

    async def grows(self, by: int) -> None:
        """Wait until so many more answers have come."""
        wanted = self.answers + by
        async with asyncio.timeout(60):
            while self.answers < wanted and not self.failures:  # noqa: ASYNC110 -- a count has no event
                await asyncio.sleep(0.01)


async def ask(session: aiohttp.ClientSession, url: str, *, stream: bool) -> str:
    """Ask once; return the whole text, or raise what came instead."""
    async with session.post(f"{url}/api/chat", json={**BODY, "stream": stream}) as response:
        body = await response.text()
        if response.status != 200:
            raise ValueError(f"{response.status}: {body}")
        rows = [json.loads(line) for line in body.splitlines()]
    if not rows[-1].get("done"):
        raise ValueError(f"ended with {rows[-1]}")
    return "".join(row["message"]["content"] for row in rows)


@asynccontextmanager
async def crowd(url: str, clients: int = 24) -> AsyncIterator[Crowd]:
    """Half stream, half wait for the whole; half keep their connections, half take a new one each time."""
    seen = Crowd(url)
    kept = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    fresh = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))
    async with kept, fresh:
        tasks = [
            asyncio.create_task(seen.ask_on((kept, fresh)[n % 2], stream=n % 4 < 2)) for n in range(clients)
        ]
        try:
            yield seen
        finally:
            seen.ended = True
            await asyncio.gather(*tasks)
    assert seen.failures == []


async def watch_slots(running: Corral, most: int, seen: list[dict[str, int]]) -> None:
    """Note whenever a worker has more to do than it has slots; llama.cpp's own count.

    What waits for a model that is not loaded is the load itself.
    """
    urls = [worker["base_url"] for worker in running.ps()["workers"]]
    while True:
        for url in urls:
            slots = json.loads(await asyncio.to_thread(get, f"{url}/corral/slots"))
            if slots["busy"] > most or any(model["waiting"] for model in slots["models"]):
                seen.append(slots)
        await asyncio.sleep(0.005)


async def test_three_upgrades_in_a_row_under_load_refuse_and_break_nothing(running: Corral) -> None:
    """Nobody waits inside a worker, models stay loaded, and every old gateway ends by itself."""
    pids, too_many = [gateway_pid(running)], list[dict[str, int]]()
    with all_comes_back(running):
        async with crowd(running.url) as seen:
            await seen.grows(48)
            watching = asyncio.create_task(
                watch_slots(running, 4, too_many) if running.engine == "embedded" else asyncio.sleep(0)
            )
            for _ in range(3):
                code, said = await order(running, "restart", "gateway", "--json")
                assert code == 0, said
                pids.append(json.loads(said)["pid"])
                await seen.grows(48)
            watching.cancel()
    assert len(set(pids)) == 4
    assert gateway_pid(running) == pids[-1]
    assert too_many == []
    assert count_of(running, "loaded") <= 2 * len(running.ps()["workers"])  # worker and gateway tell of it


def count_of(running: Corral, event: str) -> int:
    """Return how often the log tells of it."""
    return sum(line["event"] == event for line in running.log())


async def begin(session: aiohttp.ClientSession, url: str, *, words: int = 1900) -> aiohttp.ClientResponse:
    """Begin a long answer and return it once its first word is there."""
    options = {"num_predict": words, "temperature": 0}
    response = await session.post(f"{url}/api/generate", json={**LONG, "options": options})
    assert response.status == 200
    await response.content.readline()
    return response


@pytest.mark.slow
async def test_long_answers_go_on_in_the_old_gateway_and_keep_their_slots(running: Corral) -> None:
    """Eight fill both workers: the ninth waits in the new gateway until one of the old one's has ended."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        answers = await asyncio.gather(*(begin(session, running.url) for _ in range(8)))
        assert (await order(running, "restart", "gateway"))[0] == 0
        ninth = asyncio.create_task(begin(session, running.url))
        await until(lambda: sum(m["waiting"] for m in running.ps()["queue"]) == 1, "the ninth waits")
        assert [running.busy(name) for name in ("cpu0", "cpu1")] == [4, 4]
        answers[0].close()
        answers += [await ninth]
        eventually(lambda: [running.busy(name) for name in ("cpu0", "cpu1")] == [4, 4], "as many as slots")
        for answer in answers:
            answer.close()
    assert_all_is_back(running)


@pytest.mark.slow
async def test_a_new_gateway_that_does_not_start_leaves_the_old_one_serving(tmp_path: Path) -> None:
    """The command tells, with a code and a reason; the next one works."""
    make_models(tmp_path)
    with corral(tmp_path) as running, all_comes_back(running):
        accepted = tmp_path / "run" / "accepted.yaml"
        good, pid = accepted.read_text(), gateway_pid(running)
        async with crowd(running.url, clients=8) as seen:
            await seen.grows(8)
            accepted.write_text("listen: nowhere\n")
            code, said = await order(running, "restart", "gateway")
            assert code == 1
            assert "exited with status" in said
            assert "the old one serves on" in said
            await seen.grows(8)
            assert gateway_pid(running) == pid
            accepted.write_text(good)
            assert (await order(running, "restart", "gateway"))[0] == 0
            await seen.grows(8)
        assert gateway_pid(running) != pid


async def test_an_old_gateway_that_is_killed_leaves_its_slots_to_the_new_one(running: Corral) -> None:
    """Its clients see that their answers are not whole; nobody else sees anything."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        old = gateway_pid(running)
        answer = await begin(session, running.url)
        assert (await order(running, "restart", "gateway"))[0] == 0
        kill(old)
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await answer.read()
    assert_all_is_back(running)


def kill(pid: int) -> None:
    """Kill -9; not whatever 0 or -1 would stand for."""
    assert pid > 1, "no process was found to kill"
    os.kill(pid, signal.SIGKILL)


async def test_answers_beyond_finish_timeout_are_broken_off_and_told(tmp_path: Path) -> None:
    """Whoever still reads gets an error frame that says why."""
    make_models(tmp_path)
    with corral(tmp_path, gateway={"finish_timeout": "300ms"}) as running, all_comes_back(running):
        answer = await Wire.begin(running.url)
        assert (await order(running, "restart", "gateway"))[0] == 0
        assert "gateway.finish_timeout" in await answer.error()


@dataclass
class Wire:
    """A long answer as it comes: libraries drop what stands before a cut."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def begin(cls, url: str) -> Wire:
        """Ask, and return once the first word is there."""
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        body = json.dumps(LONG).encode()
        writer.write(
            b"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        writer.write(body)
        await reader.readuntil(b'"response"')
        return cls(reader, writer)

    async def error(self) -> str:
        """Read to the end; return the error that the last frame tells, empty for none."""
        rest = await self.reader.read()
        self.writer.close()
        frames = [line for line in rest.split(b"\n") if line.startswith(b"{")]
        return str(json.loads(frames[-1]).get("error", ""))


@pytest.mark.parametrize("engine", ENGINES)
async def test_after_sigterm_answers_finish_and_what_is_new_is_refused_cleanly(
    tmp_path: Path, engine: str
) -> None:
    """A 503 with Retry-After in the client's own shape, or no connection: never a reset of an answer."""
    make_models(tmp_path)
    with corral(tmp_path, engine=engine, gateway={"stop_timeout": "2m"}) as running:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            answer = await begin(session, running.url, words=600)
            running.process.terminate()
            eventually(lambda: count_of(running, "gateway stops"), "the gateway stops")
            async with session.post(f"{running.url}/v1/chat/completions", json=BODY) as response:
                assert response.status == 503
                assert response.headers["Retry-After"] == "5"
                assert response.headers["Connection"] == "close"
                assert "being stopped" in (await response.json())["error"]["message"]
            frames = (await answer.text()).splitlines()
            assert json.loads(frames[-1])["done"] is True
            assert await asyncio.to_thread(running.process.wait, 60) == 0
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(running.url)


async def test_answers_beyond_stop_timeout_are_broken_off_and_told(tmp_path: Path) -> None:
    """Those that wait for a slot are refused at once."""
    make_models(tmp_path)
    with corral(tmp_path, gateway={"stop_timeout": "300ms"}, cpu_workers=1) as running:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            answers = [await Wire.begin(running.url) for _ in range(4)]
            waiting = asyncio.create_task(session.post(f"{running.url}/api/generate", json=LONG))
            await until(lambda: sum(m["waiting"] for m in running.ps()["queue"]) == 1, "one waits")
            running.process.terminate()
            refused = await waiting
            assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
            assert ["being stopped" in await answer.error() for answer in answers] == [True] * 4
        assert await asyncio.to_thread(running.process.wait, 20) == 0


async def test_a_killed_gateway_leaves_workers_busy_for_no_more_than_a_moment(tmp_path: Path) -> None:
    """Its successor counts their slots as free: until they see that nobody listens, requests wait inside.

    That is bounded by the time in which an engine notices a closed connection, which is less than the new
    gateway needs to start; clients that come meanwhile wait in the listen backlog.
    """
    make_models(tmp_path)
    with corral(tmp_path) as running, all_comes_back(running):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            answers = await asyncio.gather(*(begin(session, running.url) for _ in range(8)))
            urls = [worker["base_url"] for worker in running.ps()["workers"]]
            pid = gateway_pid(running)
            kill(pid)
            eventually(lambda: not any(map(busy_at, urls)), "no worker computes for the dead", within_s=10)
            eventually(lambda: gateway_pid(running) not in (0, pid), "a successor")
            assert await ask(session, running.url, stream=True)
            for answer in answers:
                answer.close()


def busy_at(url: str) -> int:
    """Return how many answers a worker computes or has waiting, by llama.cpp's count."""
    slots = json.loads(get(f"{url}/corral/slots"))
    return int(slots["busy"]) + int(slots["pending"])
