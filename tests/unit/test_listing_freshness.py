from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

from gateway.fleet import catalogues
from gateway.fleet.catalogues import Catalogues
from gateway.fleet.roster import Roster, instance_of
from gateway.scheduling.names import Instance
from gateway.workers.client import WorkerUnreachableError
from supervisor.contract.fleet import FleetSnapshot, WorkerStatus
from tests.support.fake_ollama import FakeOllama


class Workers:
    """Workers that answer when a test lets them, and what was asked of them."""

    def __init__(self, *names: str, store: str = "", engine: str = "fake") -> None:
        statuses = tuple(FakeOllama(name).status(store=store, engine=engine) for name in names)
        self.roster = Roster()
        self.roster.snapshot = FleetSnapshot(boot_id="test", generation=1, workers=statuses)
        self.roster.introduced = {instance_of(status) for status in statuses}
        self.asked: list[str] = []
        self.learned: list[str] = []
        self.held: dict[str, deque[asyncio.Event]] = {}
        """Events that a worker's next answers wait for."""
        self.broken: set[str] = set()
        self.moving: set[str] = set()
        self.lists = Catalogues(self.roster, self.ask, self.learn, self.is_moving)

    def hold(self, name: str) -> asyncio.Event:
        """Let the next answer of a worker wait for the event that is returned."""
        self.held.setdefault(name, deque()).append(asyncio.Event())
        return self.held[name][-1]

    async def ask(self, status: WorkerStatus) -> Mapping[str, Any]:
        self.asked.append(status.worker)
        if self.held.get(status.worker):
            await self.held[status.worker].popleft().wait()
        if status.worker in self.broken:
            raise WorkerUnreachableError(f"{status.worker} is broken")
        return {"models": []}

    def learn(self, status: WorkerStatus, _: Mapping[str, Any]) -> None:
        self.learned.append(status.worker)

    def is_moving(self, instance: Instance) -> bool:
        return instance.worker in self.moving


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_lists_are_read_when_they_are_too_old_only() -> None:
    """Workers are asked seldom."""
    workers = Workers("a", "b")
    await workers.lists.refresh(60)
    await workers.lists.refresh(60)
    assert workers.asked == ["a", "b"]
    await workers.lists.refresh(0)
    assert workers.asked == ["a", "b", "a", "b"]


async def test_readers_at_the_same_time_join() -> None:
    """A burst of clients is one question."""
    workers = Workers("a")
    gate = workers.hold("a")
    readers = [asyncio.create_task(workers.lists.refresh(0)) for _ in range(5)]
    await settle()
    gate.set()
    await asyncio.gather(*readers)
    assert workers.asked == ["a"]


async def test_a_hung_worker_is_waited_for_once_and_no_longer_than_a_moment() -> None:
    """The others' lists are there at once; its own comes when it comes."""
    workers = Workers("hung", "quick")
    gate, loop = workers.hold("hung"), asyncio.get_running_loop()
    begun = loop.time()
    await workers.lists.refresh(0)
    assert loop.time() - begun >= catalogues._MOMENT_S * 0.9
    assert workers.learned == ["quick"]
    begun = loop.time()
    await workers.lists.refresh(0)
    assert loop.time() - begun < catalogues._MOMENT_S / 2
    gate.set()
    await settle()
    assert workers.learned == ["quick", "quick", "hung"]


async def test_a_worker_that_does_not_answer_is_asked_no_more_often_than_others() -> None:
    """Its last list stays, and clients who list often do not hammer it."""
    workers = Workers("a")
    workers.broken.add("a")
    await workers.lists.refresh(60)
    await workers.lists.refresh(60)
    assert (workers.asked, workers.learned) == (["a"], [])


async def test_a_change_of_a_store_is_read_at_once_and_waited_for() -> None:
    """However fresh the lists are."""
    workers = Workers("a")
    await workers.lists.refresh(60)
    gate = workers.hold("a")
    workers.lists.store_changed()
    reader = asyncio.create_task(workers.lists.refresh(60))
    await settle()
    assert not reader.done()
    gate.set()
    await reader
    assert workers.learned == ["a", "a"]


async def test_a_reading_that_a_change_overtook_is_repeated() -> None:
    """What it brings may be older than the change."""
    workers = Workers("a")
    gate = workers.hold("a")
    reader = asyncio.create_task(workers.lists.refresh(60))
    await settle()
    workers.lists.store_changed()
    gate.set()
    await reader
    assert workers.learned == ["a", "a"]


async def test_a_worker_that_loads_is_left_alone() -> None:
    """Unless a store was changed or somebody must know whether a model is there."""
    workers = Workers("a")
    workers.moving.add("a")
    await workers.lists.refresh(0)
    assert workers.asked == []
    await workers.lists.search(0)
    assert workers.asked == ["a"]
    workers.lists.store_changed()
    await workers.lists.refresh(60)
    assert workers.asked == ["a", "a"]


async def test_of_workers_that_share_a_store_one_is_asked_for_all() -> None:
    """One that does not load, if there is one."""
    workers = Workers("a", "b", "c", store="/models")
    workers.moving.add("a")
    await workers.lists.refresh(0)
    assert (workers.asked, workers.learned) == (["b"], ["a", "b", "c"])


async def test_another_worker_of_the_store_is_asked_when_one_is_silent() -> None:
    """Then, and first from now on."""
    workers = Workers("a", "b", store="/models")
    workers.broken.add("a")
    await workers.lists.refresh(0)
    assert (workers.asked, workers.learned) == (["a", "b"], ["a", "b"])
    await workers.lists.refresh(0)
    assert workers.asked == ["a", "b", "b"]


async def test_closing_ends_what_is_under_way() -> None:
    """No task is left behind."""
    workers = Workers("a")
    workers.hold("a")
    reader = asyncio.create_task(workers.lists.search(0))
    await settle()
    await workers.lists.close()
    await reader
    assert workers.learned == []
