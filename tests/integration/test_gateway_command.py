from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.corral import COMMAND
from tests.support.fake_ollama import FakeOllama
from tests.support.gateway_command import GATEWAY, ask, command, config_file, up

POOR_GATEWAY: Final = (sys.executable, "-m", "tests.support.run_without_unix")


async def test_it_serves_external_workers_without_a_supervisor(tmp_path: Path) -> None:
    """It says where, answers, shows them in `corral ps`, and ends with 0 on SIGTERM."""
    async with up(FakeOllama("far")) as far:
        file = config_file(tmp_path, far)
        async with command(*GATEWAY, "--config", file) as corral:
            url = await corral.greeting()
            assert await ask(url) == "far"
            assert (tmp_path / "run" / "endpoint").read_text() == f"{url}\n"
            async with command(COMMAND, "ps", "--config", file) as ps:
                assert ps.process.stdout is not None
                lines = (await ps.process.stdout.read()).decode().splitlines()
            corral.process.terminate()
            said = await corral.said()
    assert corral.process.returncode == 0
    assert not (tmp_path / "run" / "endpoint").exists()
    assert lines[1].split()[:4] == ["far", far.url, "ready", "count:latest"]
    assert "no fleet snapshots" not in said


async def test_it_needs_nothing_that_windows_lacks(tmp_path: Path) -> None:
    """Without uvloop, unix sockets and signal handlers it serves, says what is off, and ends with 0."""
    async with (
        up(FakeOllama("far")) as far,
        command(*POOR_GATEWAY, "--config", config_file(tmp_path, far)) as corral,
    ):
        assert await ask(await corral.greeting()) == "far"
        corral.process.terminate()
        said = await corral.said()
    assert corral.process.returncode == 0, said
    assert "no administration: this system has no unix sockets" in said
    assert not (tmp_path / "run").exists()


async def test_a_file_without_external_workers_is_nothing_to_serve(tmp_path: Path) -> None:
    """It says what to do instead."""
    async with command(*GATEWAY, "--config", config_file(tmp_path)) as corral:
        said = await corral.refusal()
    assert said.endswith("no `external` workers to serve: write some, or let `corral up` start workers\n")


async def test_a_runtime_directory_whose_sockets_no_path_can_name_is_refused(tmp_path: Path) -> None:
    """The kernel's limit is a hundred bytes."""
    file = config_file(tmp_path, FakeOllama("far", port=1))
    async with command(*GATEWAY, "--config", file, "--runtime-dir", tmp_path / ("x" * 100)) as corral:
        assert "too long for the path of a socket" in await corral.refusal()


async def test_workers_of_the_file_that_it_cannot_start_are_named(tmp_path: Path) -> None:
    """Starting is a supervisor's work."""
    async with up(FakeOllama("far")) as far:
        file = config_file(tmp_path, far, workers=[{"name": "own"}])
        async with command(*GATEWAY, "--config", file) as corral:
            await corral.greeting()
            corral.process.terminate()
            assert "the `workers` of the file are not started" in await corral.said()


async def test_a_taken_port_is_refused_with_both_remedies(tmp_path: Path) -> None:
    """Nothing is started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        file = config_file(tmp_path, FakeOllama("far", port=1), listen=listen)
        async with command(*GATEWAY, "--config", file) as corral:
            said = await corral.refusal()
    assert said == f"corral gateway: {listen} is taken: stop whoever has it, or set another `listen`\n"


@pytest.mark.parametrize(
    ("more", "words"),
    [({"extrenal": []}, "extrenal"), ({"listen": "192.0.2.1:1"}, "192.0.2.1:1")],
)
async def test_a_wrong_file_starts_nothing(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    """Exit code 2 and what is wrong."""
    file = config_file(tmp_path, FakeOllama("far", port=1), auth="none", **more)
    async with command(*GATEWAY, "--config", file) as corral:
        assert words in await corral.refusal()


async def test_a_runtime_directory_that_is_in_use_is_refused(tmp_path: Path) -> None:
    """A second one would take the first one's socket away."""
    async with up(FakeOllama("far")) as far:
        file = config_file(tmp_path, far)
        async with command(*GATEWAY, "--config", file) as first:
            await first.greeting()
            async with command(*GATEWAY, "--config", file) as second:
                said = await second.refusal()
    assert f"is in use by another Corral (process {first.process.pid})" in said


async def test_a_runtime_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    """Sockets of theirs could lie in it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o722)
    async with command(*GATEWAY, "--config", config_file(tmp_path, FakeOllama("far", port=1))) as corral:
        assert "can be written to by others" in await corral.refusal()
