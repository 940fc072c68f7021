"""A second `corral up` beside a running one: it says why it cannot, and the first notices nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.aftermath import all_comes_back
from tests.support.corral import COMMAND, Corral, corral, plain_environment, write_config
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.supervisor import PATIENCE_S, get


@pytest.fixture(scope="module", params=ENGINES)
def running(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Corral]:
    """The first."""
    directory: Path = tmp_path_factory.mktemp("first")
    counting_model(directory / "models")
    with corral(directory, engine=request.param, workers=[{"name": "w0"}]) as running:
        yield running


def refusal(directory: Path, **changes: object) -> str:
    """Start another one; return what it says before it ends with 2."""
    file = write_config(directory, workers=[{"name": "w0"}], **changes)
    ended = subprocess.run(
        [COMMAND, "up", "--config", str(file)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env=plain_environment(),
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    return ended.stderr


def test_the_same_runtime_directory_is_refused(running: Corral, tmp_path: Path) -> None:
    """The text names the directory, who has it and what to do; the first keeps its sockets."""
    with all_comes_back(running):
        said = refusal(tmp_path, runtime_dir=str(running.directory / "run"))
        assert str(running.directory / "run") in said
        assert str(running.process.pid) in said
        assert "runtime_dir" in said
    assert running.worker("w0")["incarnation"] == 1


def test_the_same_port_is_refused(running: Corral, tmp_path: Path) -> None:
    """The text names the process that has it, and no client of the first is turned away."""
    port = running.url.rpartition(":")[2]
    with all_comes_back(running):
        said = refusal(tmp_path, listen=f"127.0.0.1:{port}")
        assert f"127.0.0.1:{port} is taken by" in said
        assert get(f"{running.url}/api/version")
    assert running.worker("w0")["incarnation"] == 1
    assert not (tmp_path / "run" / "gateway.sock").exists()
