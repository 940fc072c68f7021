from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.fake_ollama import FakeOllama
from tests.support.gateway import until
from tests.support.gateway_command import GATEWAY, Command, ask, command, config_file, up


def state_file(directory: Path) -> Path:
    """Return the one file of the state directory."""
    (file,) = (directory / "state").glob("learned-*.json")
    return file


def knows(directory: Path) -> dict[str, Any]:
    """Return what is kept of the model `count`, nothing before anything is."""
    files = list((directory / "state").glob("learned-*.json"))
    models = json.loads(files[0].read_text())["models"] if files else []
    return next((model for model in models if model["name"] == "count:latest"), {})


@asynccontextmanager
async def gateway(directory: Path, *workers: FakeOllama, **more: Any) -> AsyncIterator[tuple[Command, str]]:
    """Run the gateway in front of the workers; yields it and its URL."""
    async with command(*GATEWAY, "--config", config_file(directory, *workers, **more)) as process:
        yield process, await process.greeting()


async def stop(process: Command) -> str:
    """End it as a person does, and return what it said."""
    process.process.terminate()
    said = await process.said()
    assert process.process.returncode == 0, said
    return said


async def test_a_killed_gateway_leaves_what_loads_took_to_its_successor(tmp_path: Path) -> None:
    """It had no time to say goodbye; the successor writes down again what it was left, rates decayed."""
    async with up(FakeOllama("far")) as far:
        async with gateway(tmp_path, far) as (first, url):
            await ask(url)
            await until(lambda: "far" in knows(tmp_path).get("load_s", {}), "the load is kept")
            first.process.kill()
            await first.said()
        left = knows(tmp_path)
        async with gateway(tmp_path, far) as (second, _):
            said = await stop(second)
    assert "knows what was learned" in said
    assert far.loads == ["count"]
    again = knows(tmp_path)
    assert again["load_s"] == left["load_s"]
    assert 0 < again["fast_rate"] < left["fast_rate"]


async def test_a_gateway_that_is_stopped_leaves_all_it_knows(tmp_path: Path) -> None:
    """Also how long answers took, though it is less than half a minute since it wrote last."""
    async with up(FakeOllama("far")) as far:
        async with gateway(tmp_path, far) as (first, url):
            await ask(url)
            await ask(url)
            await stop(first)
        left = knows(tmp_path)
        async with gateway(tmp_path, far) as (second, _):
            await stop(second)
    assert left["service_s"]
    assert left["size_bytes"] == far.size_bytes
    assert knows(tmp_path)["service_s"] == left["service_s"]


async def test_a_file_that_was_cut_short_is_put_aside_and_the_gateway_serves(tmp_path: Path) -> None:
    """It says which file and where it is now."""
    async with up(FakeOllama("far")) as far:
        async with gateway(tmp_path, far) as (first, url):
            await ask(url)
            await stop(first)
        file = state_file(tmp_path)
        file.write_bytes(file.read_bytes()[:-9])
        async with gateway(tmp_path, far) as (second, url):
            assert await ask(url) == "far"
            said = await stop(second)
    assert f"{file}.unread" in said
    assert (tmp_path / "state" / f"{file.name}.unread").exists()
    assert knows(tmp_path)


async def test_a_state_directory_that_cannot_be_is_one_warning(tmp_path: Path) -> None:
    """Learning is a convenience; serving is the work."""
    (tmp_path / "state").write_text("no directory")
    async with up(FakeOllama("far")) as far, gateway(tmp_path, far) as (process, url):
        assert await ask(url) == "far"
        said = await stop(process)
    assert said.count("what is learned cannot be kept") == 1
