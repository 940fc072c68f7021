from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from gateway.external.health import Timings
from supervisor.contract.fleet import WorkerState
from tests.support.fake_ollama import FakeOllama
from tests.support.gateway import DEADLINE_S, Bench, gateway, until

ASK: Final = {"model": "count", "prompt": "hello"}
BUSY: Final = Timings(
    probe_interval_s=0.05,
    probe_timeout_s=1.0,
    first_backoff_s=0.02,
    max_backoff_s=0.05,
    look_interval_s=0.05,
)
"""Asks so often that a test need not wait."""
LAZY: Final = Timings(probe_interval_s=3600.0, look_interval_s=3600.0, first_backoff_s=3600.0)
"""Asks nothing of its own accord once the worker was seen."""


@asynccontextmanager
async def up(*workers: FakeOllama) -> AsyncIterator[None]:
    """Run fake workers that the gateway has not started; none may have been wronged."""
    async with AsyncExitStack() as stack:
        for worker in workers:
            await worker.start()
            stack.push_async_callback(worker.stop)
        yield
        assert [offence for worker in workers for offence in worker.offences] == []


async def ask(bench: Bench, **changes: Any) -> tuple[int, str, str]:
    """Send one generate request and return status, body and the worker that answered."""
    async with bench.http.post(f"{bench.url}/api/generate", json={**ASK, **changes}) as response:
        return response.status, await response.text(), response.headers.get("X-Corral-Worker", "")


async def fleet(bench: Bench) -> dict[str, dict[str, Any]]:
    """Ask the operator's socket for the workers, by name."""
    connector = aiohttp.UnixConnector(bench.admin_socket)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://corral/corral/fleet") as response,
    ):
        return {worker["worker"]: worker for worker in (await response.json())["workers"]}


async def until_worker(bench: Bench, name: str, **wanted: Any) -> dict[str, Any]:
    """Return the worker once all these fields have these values."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            worker = (await fleet(bench))[name]
            if all(worker[field] == value for field, value in wanted.items()):
                return worker
            await asyncio.sleep(0.01)


async def until_resident(bench: Bench, name: str, *models: str) -> None:
    """Wait until the gateway believes that the worker holds these models and no others."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            worker = (await fleet(bench))[name]
            if {row["name"] for row in worker["resident"]} == set(models):
                return
            await asyncio.sleep(0.01)


async def test_an_external_worker_is_served_without_a_supervisor(tmp_path: Path) -> None:
    """The model is loaded there and the answer relayed; the fleet shows where it runs."""
    far = FakeOllama("far")
    async with up(far), gateway(tmp_path, external=[far.external()]) as bench:
        assert (await ask(bench))[::2] == (200, "far")
        worker = (await fleet(bench))["far"]
    assert far.loads == ["count"]
    assert worker["devices"] == [{"kind": "remote", "id": far.url, "label": far.url}]
    assert (worker["state"], worker["incarnation"], worker["pid"]) == ("ready", 1, None)


async def test_external_workers_join_the_supervisors_fleet(tmp_path: Path) -> None:
    """One that another Corral-owned worker's models lack is found there, and a model of both runs on both."""
    own, far = FakeOllama("own", models=("count",)), FakeOllama("far", models=("count", "other"))
    async with up(far), gateway(tmp_path, own, external=[far.external()]) as bench:
        assert (await ask(bench, model="other"))[::2] == (200, "far")
        assert (await ask(bench))[0] == 200
        assert set(await fleet(bench)) == {"own", "far"}


async def test_a_model_that_nobody_has_yet_is_waited_for_while_a_worker_comes_up(tmp_path: Path) -> None:
    """Stores differ, so what the external worker lacks may be on the one that is still starting."""
    own, far = FakeOllama("own", models=("other",)), FakeOllama("far", models=("count",))
    async with (
        up(far),
        gateway(tmp_path, own, external=[far.external()], state=WorkerState.STARTING) as bench,
    ):
        assert (await ask(bench))[::2] == (200, "far")
        waiting = asyncio.create_task(ask(bench, model="other"))
        assert (await ask(bench))[0] == 200
        assert not waiting.done()
        bench.publish()
        assert (await waiting)[::2] == (200, "own")


async def test_a_name_that_is_taken_by_an_own_worker_leaves_the_external_one_out(tmp_path: Path) -> None:
    """Two workers of one name would mix up leases; the own one is served."""
    own, far = FakeOllama("same"), FakeOllama("same")
    async with up(far), gateway(tmp_path, own, external=[far.external()]) as bench:
        assert (await ask(bench))[0] == 200
        assert [worker["base_url"] for worker in (await fleet(bench)).values()] == [own.url]
    assert far.loads == []


async def test_one_that_comes_back_is_a_new_incarnation_and_holds_what_it_says(tmp_path: Path) -> None:
    """What the vanished process had loaded is not believed of its successor."""
    far = FakeOllama("far")
    async with up(far), gateway(tmp_path, external=[far.external()], timings=BUSY) as bench:
        assert (await ask(bench))[0] == 200
        await far.stop()
        gone = await until_worker(bench, "far", state="backoff")
        assert (gone["base_url"], gone["incarnation"]) == ("", 1)
        far.loaded.clear()
        await far.start()
        await until_worker(bench, "far", state="ready", incarnation=2)
        assert (await ask(bench))[0] == 200
    assert far.loads == ["count", "count"]


async def test_a_request_waits_for_a_worker_that_is_not_there_yet(tmp_path: Path) -> None:
    """A container that starts after the gateway serves as soon as it answers."""
    far = FakeOllama("far")
    await far.start()
    await far.stop()
    async with gateway(tmp_path, external=[far.external()], timings=BUSY) as bench:
        waiting = asyncio.create_task(ask(bench))
        await until_worker(bench, "far", state="backoff")
        async with up(far):
            assert (await waiting)[0] == 200


async def test_a_failed_request_has_the_worker_asked_at_once(tmp_path: Path) -> None:
    """The request is answered elsewhere, and the worker counts as gone although no probe was due."""
    first, second = FakeOllama("first"), FakeOllama("second")
    async with up(first, second):
        external = [first.external(), second.external()]
        async with gateway(tmp_path, external=external, timings=LAZY) as bench:
            _, _, used = await ask(bench)
            gone, other = (first, second) if used == "first" else (second, first)
            await gone.stop()
            assert (await ask(bench))[::2] == (200, other.name)
            await until_worker(bench, gone.name, state="backoff")


async def test_a_restart_between_two_probes_is_seen_after_a_failed_request(tmp_path: Path) -> None:
    """It answers the probe that the failure triggered, and what it holds is read again."""
    far = FakeOllama("far")
    async with up(far), gateway(tmp_path, external=[far.external()], timings=LAZY) as bench:
        await ask(bench)
        far.loaded.clear()
        far.loaded.add("other")
        far.script.append("cut")
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(bench)
        await until_resident(bench, "far", "other:latest")
        far.offences.clear()  # the answer of a model that was not loaded any more


async def test_a_model_that_somebody_else_loaded_is_used(tmp_path: Path) -> None:
    """It is seen there within the interval, and no load is asked for."""
    far = FakeOllama("far", models=("count",))
    async with up(far), gateway(tmp_path, external=[far.external()], timings=BUSY) as bench:
        await until_resident(bench, "far")
        far.models = ("count", "new")
        far.loaded.add("new")
        await until_resident(bench, "far", "new:latest")
        assert (await ask(bench, model="new"))[0] == 200
    assert far.loads == []


async def test_what_it_holds_is_not_asked_during_our_own_load(tmp_path: Path) -> None:
    """Polling /api/ps during a load can crash an Ollama; probes go on meanwhile."""
    far = FakeOllama("far", load_gate=asyncio.Event())
    async with up(far), gateway(tmp_path, external=[far.external()], timings=BUSY) as bench:
        asking = asyncio.create_task(ask(bench))
        assert far.load_gate is not None
        await until(lambda: far.loading == 1, "the load is under way")
        enough = far.probes + 5
        await until(lambda: far.probes >= enough, "it is asked whether it is there")
        far.load_gate.set()
        assert (await asking)[0] == 200


async def test_its_limits_are_the_files(tmp_path: Path) -> None:
    """A worker that does not tell its slots gets as many answers at once as the file says."""
    far = FakeOllama("far", slots=3, reports_slots=False)
    async with up(far), gateway(tmp_path, external=[far.external(num_parallel=1)]) as bench:
        assert [status for status, _, _ in await asyncio.gather(*(ask(bench) for _ in range(3)))] == [200] * 3
    assert far.most_at_once == 1


async def test_models_dedicates_it(tmp_path: Path) -> None:
    """It serves these and no others, whatever its store has."""
    far = FakeOllama("far")
    async with up(far), gateway(tmp_path, external=[far.external(models=("other",))]) as bench:
        assert (await ask(bench))[0] == 404
        assert (await ask(bench, model="other"))[0] == 200


async def test_something_that_is_no_ollama_gets_no_requests_and_says_why(tmp_path: Path) -> None:
    """The reason stands in the fleet, for `corral ps`."""
    odd, far = FakeOllama("odd", version=None), FakeOllama("far")
    async with (
        up(odd, far),
        gateway(tmp_path, external=[odd.external(), far.external()], timings=BUSY) as bench,
    ):
        worker = await until_worker(bench, "odd", state="backoff")
        assert worker["reason"].startswith("answers, but not as an Ollama does")
        assert (await ask(bench))[::2] == (200, "far")


async def test_health_tells_of_external_workers(tmp_path: Path) -> None:
    """503 while none is there."""
    far = FakeOllama("far")
    await far.start()
    await far.stop()
    async with (
        gateway(tmp_path, external=[far.external()], timings=BUSY) as bench,
        bench.http.get(f"{bench.url}/corral/health") as response,
    ):
        assert response.status == 503
        assert json.loads(await response.text())["workers"] == 1
