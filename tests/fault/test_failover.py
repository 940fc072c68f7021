"""Workers killed in the middle of streamed answers that go on: the client sees one answer, without a seam.

The model counts, so a lost, repeated or foreign token shows.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import ollama
import pytest

from tests.support.aftermath import ask_gateway, assert_all_is_back
from tests.support.corral import Corral, corral
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.supervisor import children_of

LAST: Final = 80
GO: Final = [{"role": "user", "content": "go"}]
LIMIT: Final = {"options": {"num_predict": LAST, "temperature": 0}}
REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "/api/chat": {"messages": GO, **LIMIT},
    "/api/generate": {"prompt": "go", **LIMIT},
    "/v1/chat/completions": {
        "messages": GO,
        "stream": True,
        "max_tokens": LAST,
        "temperature": 0,
        "stream_options": {"include_usage": True},
    },
    "/v1/completions": {"prompt": "go", "stream": True, "max_tokens": LAST, "temperature": 0},
    "/v1/messages": {"messages": GO, "stream": True, "max_tokens": LAST, "temperature": 0},
}

SLOW: Final[dict[str, dict[str, Any]]] = {
    "embedded": {"width": 1024, "layers": 8, "feed_forward": 3072},
    "ollama": {"width": 512, "layers": 6, "feed_forward": 2048},
}
"""Of the model, so that it is in the middle of an answer when its worker is killed; Ollama takes longer."""

Killing = Callable[[Corral], None]


@contextmanager
def going_on(directory: Path, engine: str, **changes: Any) -> Iterator[Corral]:
    """Run a Corral that goes on with answers, over a model that takes its time; all is back afterwards."""
    counting_model(directory / "models", **SLOW[engine])
    changes = {"gateway": {"failover": "continue"}, **changes}
    with corral(directory, engine=engine, **changes) as running:
        yield running
        assert_all_is_back(running)


def busy(running: Corral) -> dict[str, Any]:
    """Return the worker that computes."""
    fleet = ask_gateway(running.directory / "run", "/corral/fleet")["workers"]
    found: dict[str, Any] = next(w for w in fleet if any(model["busy"] for model in w["resident"]))
    return found


def kill_worker(running: Corral) -> None:
    """SIGKILL to the process that the supervisor started."""
    os.kill(busy(running)["pid"], signal.SIGKILL)


def kill_runner(running: Corral) -> None:
    """SIGKILL to the process that holds the model; its server lives and tells an error."""
    for pid in children_of(busy(running)["pid"]):
        os.kill(pid, signal.SIGKILL)


@dataclass
class Reading:
    """A stream as its client reads it."""

    objects: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(map(text_of, self.objects))

    @property
    def numbers(self) -> list[int]:
        """What it counted."""
        return [int(word) for word in self.text.split()]

    @property
    def steps(self) -> list[dict[str, Any]]:
        """What it tells of how it went on."""
        return [step for one in self.objects for step in one.get("corral", {}).get("continued", ())]


def text_of(one: dict[str, Any]) -> str:
    """Return the text of a frame of any surface."""
    choice = (one.get("choices") or [{}])[0]
    carriers = (one.get("message") or {}, one, choice.get("delta") or {}, choice, one.get("delta") or {})
    texts = (carrier.get(name) for carrier in carriers for name in ("content", "response", "text"))
    return next((text for text in texts if isinstance(text, str) and text), "")


async def objects(running: Corral, route: str, **body: Any) -> AsyncIterator[dict[str, Any]]:
    """Yield the frames of an answer."""
    timeout = aiohttp.ClientTimeout(total=120)
    asked = {"model": "count", **body}
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(running.url + route, json=asked) as response,
    ):
        assert response.status == 200, await response.text()
        async for line in response.content:
            text = line.decode().removeprefix("data: ")
            if text.startswith("{"):
                yield json.loads(text)


async def read(
    running: Corral, route: str, kills: dict[int, Killing], *, into: Reading | None = None, **changes: Any
) -> Reading:
    """Read an answer; at so many texts in it something is killed."""
    reading, left = into or Reading(), dict(kills)
    async for one in objects(running, route, **{**REQUESTS[route], **changes}):
        reading.objects.append(one)
        for at in [at for at in left if len(reading.numbers) >= at]:
            await asyncio.to_thread(left.pop(at), running)
    return reading


def assert_whole(reading: Reading, *, steps: int) -> None:
    """The answer has every number once, one id, and tells how often it went on."""
    assert reading.numbers == list(range(1, LAST + 1))
    assert len({one["id"] for one in reading.objects if "id" in one}) <= 1
    created = [one["created"] for one in reading.objects if "created" in one]
    assert created == sorted(created)  # Ollama itself lets it grow with the seconds
    assert len(reading.steps) == steps
    assert not [one for one in reading.objects if "error" in one]
    told = [
        one.get("eval_count") or (one.get("usage") or {}).get("completion_tokens") for one in reading.objects
    ]
    told += [(one.get("usage") or {}).get("output_tokens") for one in reading.objects]
    assert {count for count in told if count} <= {LAST}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.slow
async def test_a_worker_killed_at_many_places_of_a_stream_is_not_noticed(tmp_path: Path, engine: str) -> None:
    """On every surface, and at the first frames, in the middle and near the end."""
    with going_on(tmp_path, engine) as running:
        for number, route in enumerate(REQUESTS):
            at = (1, 2, 7, 20, 40)[number]
            assert_whole(await read(running, route, {at: kill_worker}), steps=1)
            assert_all_is_back(running)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.slow
async def test_an_answer_survives_two_workers(tmp_path: Path, engine: str) -> None:
    """The one that went on is killed too."""
    with going_on(tmp_path, engine) as running:
        reading = await read(running, "/api/chat", {5: kill_worker, 40: kill_worker})
        assert_whole(reading, steps=2)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.slow
async def test_the_only_worker_goes_on_after_its_restart(tmp_path: Path, engine: str) -> None:
    """The client waits in the middle of its answer, and gets the rest."""
    with going_on(tmp_path, engine, cpu_workers=1) as running:
        assert_whole(await read(running, "/v1/chat/completions", {9: kill_worker}), steps=1)


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_runner_that_dies_is_gone_on_for(tmp_path: Path, engine: str) -> None:
    """Its server says so in a frame of the stream, which the client does not get."""
    with going_on(tmp_path, engine) as running:
        assert_whole(await read(running, "/api/generate", {9: kill_runner}), steps=1)


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_alias_and_the_clients_library_go_on(tmp_path: Path, engine: str) -> None:
    """The library takes the frames for those of one answer, and every frame names the alias."""
    with going_on(tmp_path, engine, models={"count": {"aliases": ["numbers"]}}) as running:
        client = ollama.AsyncClient(running.url)
        parts, options = [], {"num_predict": LAST, "temperature": 0}
        async for part in await client.chat("numbers", GO, stream=True, options=options):
            parts.append(part)
            if len(parts) == 12:
                await asyncio.to_thread(kill_worker, running)
        await client.close()  # type: ignore[no-untyped-call]  # the library left it bare
        text = "".join(part.message.content or "" for part in parts)
        assert text.split() == [str(number) for number in range(1, LAST + 1)]
        assert {part.model for part in parts} == {"numbers"}
        assert (parts[-1].done_reason, parts[-1].eval_count) == ("length", LAST)


@pytest.mark.parametrize("engine", ENGINES)
async def test_what_cannot_go_on_ends_with_an_error(tmp_path: Path, engine: str) -> None:
    """One that tells log probabilities: its words so far in order, then why."""
    reading = Reading()
    with going_on(tmp_path, engine) as running, pytest.raises(aiohttp.ClientPayloadError):
        await read(running, "/api/chat", {3: kill_worker}, into=reading, logprobs=True)
    assert reading.numbers == list(range(1, len(reading.numbers) + 1))
    assert "could not go on elsewhere: the answer tells log" in reading.objects[-1]["error"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.slow
async def test_eight_answers_go_on_at_once(tmp_path: Path, engine: str) -> None:
    """All streams of a worker break in one moment; no slot is left taken."""
    with going_on(tmp_path, engine) as running:
        killed = asyncio.Event()

        def once(running: Corral) -> None:
            if not killed.is_set():
                killed.set()
                kill_worker(running)

        readings = await asyncio.gather(*(read(running, "/api/chat", {20: once}) for _ in range(8)))
        for reading in readings:
            assert_whole(reading, steps=len(reading.steps))
        assert any(reading.steps for reading in readings)
