"""What clients notice when the configuration changes under them, and what a wrong file changes: nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from tests.support.aftermath import all_comes_back, gateway_pid
from tests.support.corral import CONFIG, Corral, corral, write_config
from tests.support.gateway import until
from tests.support.load import GO, load, order
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.supervisor import ROOT, eventually, exists


@pytest.fixture(params=ENGINES)
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Corral]:
    """A Corral of two listed workers."""
    counting_model(tmp_path / "models", words=30)
    with corral(tmp_path, engine=request.param, workers=[{"name": "a"}, {"name": "b"}]) as running:
        yield running


def rewrite(running: Corral, **changes: Any) -> None:
    """Write the same file with these changes."""
    defaults = {**CONFIG["worker_defaults"], "engine": running.engine}
    changes = {"workers": [{"name": "a"}, {"name": "b"}], "worker_defaults": defaults, **changes}
    write_config(running.directory, **changes)


@pytest.fixture
def far_url() -> Iterator[str]:
    """Return the address of a fake worker that somebody else started; it holds the model `count`."""
    argv = [sys.executable, "-m", "tests.support.run_fake_ollama", "far", "127.0.0.1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


def lines(running: Corral, event: str) -> list[dict[str, Any]]:
    """Return the log's lines of this kind."""
    return [line for line in running.log() if line.get("event") == event]


def pids(running: Corral) -> dict[str, int]:
    """Return the workers' processes and the gateway's."""
    workers = {worker["worker"]: worker["pid"] for worker in running.ps()["workers"]}
    return workers | {"gateway": gateway_pid(running)}


async def chat(running: Corral, model: str) -> None:
    """Ask for one word."""
    client = ollama.AsyncClient(running.url)
    try:
        await client.chat(model, GO, options={"num_predict": 1})
    finally:
        await client.close()  # type: ignore[no-untyped-call]  # the library left it bare


async def status_of(running: Corral, model: str) -> int:
    """Return the status of an answer by this model."""
    async with httpx.AsyncClient(base_url=running.url) as client:
        return (await client.post("/api/generate", json={"model": model, "prompt": "x"})).status_code


async def test_a_broken_file_changes_nothing_and_is_told(running: Corral) -> None:
    """By the command's exit code and in the log; also a gateway that dies then comes back and serves.

    Fails when a gateway reads the file itself instead of the copy that was accepted.
    """
    before = pids(running)
    (running.directory / "corral.yaml").write_text("listen: 127.0.0.1:0\nnonsense: 1\n")
    with all_comes_back(running):
        async with load(running, clients=2) as seen:
            code, said = await order(running, "reload")
            assert code == 2
            assert "corral.yaml:2: nonsense: is not known here" in said
            running.process.send_signal(signal.SIGHUP)
            eventually(lambda: len(lines(running, "reload failed")) == 2, "the log tells of both")
            assert pids(running) == before
            await seen.grows()
        os.kill(before["gateway"], signal.SIGKILL)
        eventually(lambda: gateway_pid(running) not in (0, before["gateway"]), "another gateway")
        async with load(running, clients=2) as seen:
            await seen.grows(2)
    assert {**pids(running), "gateway": 0} == {**before, "gateway": 0}


async def test_an_empty_file_changes_nothing(running: Corral) -> None:
    """An editor begins with it; all defaults would end every worker of the file."""
    before = pids(running)
    (running.directory / "corral.yaml").write_text("")
    code, said = await order(running, "reload")
    assert code == 2
    assert "the file is empty" in said
    assert pids(running) == before


async def test_a_storm_of_signals_under_load_is_a_handful_of_reloads(running: Corral) -> None:
    """Each changes settings in place; processes and models stay, and the last file is in force.

    A signal may find the file empty, because it is just being written: that one changes nothing.
    """
    async with load(running) as seen:
        await seen.grows()
        before = pids(running)
        for number in range(100):
            rewrite(running, models={"count": {"aliases": [f"alias{number}"]}}, gateway={"idle_timeout": 60})
            running.process.send_signal(signal.SIGHUP)
        await seen.grows(16)
        code, said = await order(running, "reload")
        assert code == 0, said
    assert pids(running) == before
    assert len(lines(running, "reloaded")) <= 102
    assert all("the file is empty" in line["error"] for line in lines(running, "reload failed"))
    await chat(running, "alias99")
    with pytest.raises(ollama.ResponseError):
        await chat(running, "alias98")


async def test_what_comes_during_a_reload_becomes_one_more(tmp_path: Path) -> None:
    """Which sees the file as it is then; whoever asked with the command hears of that one.

    Fails when each signal becomes a reload of its own, and when one that comes late is taken for the first.
    """
    counting_model(tmp_path / "models", name="count", width=512, layers=6, feed_forward=2048)
    with corral(tmp_path, workers=[{"name": "a"}]) as running:
        client = httpx.AsyncClient(base_url=running.url, timeout=60)
        body = {"model": "count", "prompt": "go", "options": {"num_predict": 1900}}
        async with client.stream("POST", "/api/generate", json=body) as answer:
            pieces = answer.aiter_bytes()
            await anext(pieces)
            write_config(tmp_path, workers=[{"name": "a", "max_loaded_models": 2}])
            first = asyncio.create_task(order(running, "reload"))
            await until(lambda: running.worker("a")["state"] == "draining", "the worker drains")
            write_config(tmp_path, workers=[{"name": "a", "max_loaded_models": 2}], drain_timeout=1)
            for _ in range(5):
                running.process.send_signal(signal.SIGHUP)
            late = asyncio.create_task(order(running, "reload"))
            await until(lambda: len(lines(running, "asked on the control socket")) == 2, "both are heard")
        await client.aclose()
        assert (await first)[0] == 0
        code, said = await late
        assert (code, said.splitlines()[0]) == (0, "waits for the reload that is under way")
        assert "drain_timeout: changes in place" in said
        assert len(lines(running, "reloaded")) == 2


async def test_an_external_worker_changes_in_place(tmp_path: Path, far_url: str) -> None:
    """New limits leave it as it is; another address is another life; without it its models are gone.

    Fails when a changed worker is watched with what it was before, and when a new one is not asked at once.
    """
    far = {"name": "far", "url": far_url, "memory": "1GiB"}
    with corral(tmp_path, workers=[{"name": "own"}]) as running:
        before = pids(running)["gateway"]
        for changes, limits in (({}, (1, 1)), ({"num_parallel": 3}, (3, 1))):
            write_config(tmp_path, workers=[{"name": "own"}], external=[{**far, **changes}])
            assert (await order(running, "reload"))[0] == 0
            await until(lambda: running.worker("far")["state"] == "ready", "it serves")
            assert await status_of(running, "count") == 200
            shown = running.worker("far")
            assert (shown["num_parallel"], shown["incarnation"]) == limits
        write_config(tmp_path, workers=[{"name": "own"}], external=[{**far, "url": "http://127.0.0.1:9"}])
        assert (await order(running, "reload"))[0] == 0
        await until(lambda: running.worker("far")["state"] != "ready", "nobody is there")
        write_config(tmp_path, workers=[{"name": "own"}])
        assert (await order(running, "reload"))[0] == 0
        assert [worker["worker"] for worker in running.ps()["workers"]] == ["own"]
        assert gateway_pid(running) == before
        assert await status_of(running, "count") == 404


async def test_only_the_changed_worker_drains_and_the_other_keeps_its_models(running: Corral) -> None:
    """Under load nobody is refused or broken off; another worker joins and one goes."""
    with all_comes_back(running):
        async with load(running) as seen:
            await seen.grows()
            before = pids(running)
            rewrite(running, workers=[{"name": "a"}, {"name": "b", "max_loaded_models": 2}])
            code, planned = await order(running, "reload", "--dry-run")
            assert code == 0
            assert "worker a: unchanged, keeps its models" in planned
            assert "worker b: drains and is started anew (max_loaded_models)" in planned
            assert pids(running) == before
            code, said = await order(running, "reload")
            assert code == 0, said
            after = pids(running)
            assert (after["a"], after["gateway"]) == (before["a"], before["gateway"])
            assert after["b"] != before["b"]
            assert running.worker("a")["incarnation"] == 1
            await seen.grows()
    assert running.worker("b")["max_loaded_models"] == 2


async def test_a_worker_that_was_drained_by_hand_stays_away_also_when_it_is_changed(running: Corral) -> None:
    """And says still how it comes back: with its new settings."""
    remedy = "drained by hand: `corral resume b` brings it back"
    assert (await order(running, "drain", "b"))[0] == 0
    rewrite(running, workers=[{"name": "a"}, {"name": "b", "max_loaded_models": 2}])
    code, said = await order(running, "reload")
    assert code == 0, said
    await until(lambda: running.worker("b")["max_loaded_models"] == 2, "the gateway knows")
    changed = running.worker("b")
    assert (changed["state"], changed["reason"]) == ("stopped", remedy)
    assert (await order(running, "resume", "b"))[0] == 0
    await until(lambda: running.worker("b")["state"] == "ready", "it serves again")


async def test_workers_come_and_go(running: Corral) -> None:
    """A new one serves, a removed one is gone with its process; the order is the file's."""
    with all_comes_back(running):
        async with load(running, clients=4) as seen:
            await seen.grows(4)
            gone = running.worker("a")["pid"]
            rewrite(running, workers=[{"name": "c"}, {"name": "b"}])
            code, said = await order(running, "reload")
            assert code == 0, said
            assert "worker a: drains and goes" in said
            assert "worker c: is new" in said
            assert [worker["worker"] for worker in running.ps()["workers"]] == ["c", "b"]
            await seen.grows(4)
    assert not exists(gone)


async def test_settings_of_the_gateway_change_in_place(running: Corral) -> None:
    """The same gateway and workers go by them at once."""
    await chat(running, "count")
    before = pids(running)
    rewrite(
        running,
        gateway={
            "max_body_size": "1KiB",
            "body_memory": "8KiB",
            "cors_origins": ["https://chat.example.com"],
        },
        models={"count": {"aliases": ["gpt-4o"], "pin": True}},
        log={"level": "debug"},
    )
    code, said = await order(running, "reload")
    assert code == 0, said
    assert pids(running) == before
    async with httpx.AsyncClient(base_url=running.url) as plain:
        body = {"model": "count", "prompt": "x" * 2000}
        assert (await plain.post("/api/generate", json=body)).status_code == 413
        origin = {"Origin": "https://chat.example.com"}
        shown = await plain.get("/api/tags", headers=origin)
        assert shown.headers["Access-Control-Allow-Origin"] == "https://chat.example.com"
    await chat(running, "gpt-4o")
    assert [line["keys"] for line in lines(running, "new settings")] == [
        [
            "models.count",
            "gateway.max_body_size",
            "gateway.body_memory",
            "gateway.cors_origins",
            "log.level",
        ]
    ]


async def test_what_needs_a_restart_is_told_each_time_and_not_applied(running: Corral) -> None:
    """The port stays open where it is."""
    rewrite(running, listen="127.0.0.1:1")
    for _ in range(2):
        code, said = await order(running, "reload")
        assert code == 0
        assert "listen: is NOT applied, because it needs a restart of Corral" in said
    async with load(running, clients=2) as seen:
        await seen.grows(2)


@pytest.mark.slow
async def test_a_worker_that_does_not_come_up_ends_the_reload_before_others_are_touched(
    tmp_path: Path,
) -> None:
    """A setting that no process starts with: the other worker keeps its old one and serves on."""
    counting_model(tmp_path / "models", words=30)
    with corral(tmp_path, workers=[{"name": "a"}, {"name": "b"}]) as running:
        before = pids(running)
        wrong = [{"name": name, "env": {"PYTHONHOME": "/nonexistent"}} for name in ("a", "b")]
        async with load(running, clients=4) as seen:
            await seen.grows(2)
            rewrite(running, workers=wrong)
            code, said = await order(running, "reload")
            assert code == 1, said
            assert "a served and does not come up with the new settings" in said
            assert pids(running)["b"] == before["b"]
            await seen.grows(2)
            rewrite(running)
            code, said = await order(running, "reload")
            assert code == 0, said
            assert pids(running)["b"] == before["b"]
            await seen.grows(2)
        assert running.worker("a")["state"] == "ready"
