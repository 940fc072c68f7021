"""The command `corral up` with the real gateway and real embedded workers, as a person starts it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.supervisor import PATIENCE_S, children_of, eventually, exists, get

CONFIG = """\
listen: 127.0.0.1:{port}
runtime_dir: run
gguf_dir: models
worker_defaults: {{engine: embedded, max_loaded_models: 1}}
{more}
"""


@contextmanager
def corral_up(
    directory: Path, *options: str, port: int = 0, more: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """Run `corral up` over an empty model directory; it is gone afterwards."""
    (directory / "models").mkdir(exist_ok=True)
    file = directory / "corral.yaml"
    file.write_text(CONFIG.format(port=port, more=more))
    argv = [str(Path(sys.executable).with_name("corral")), "up", "--config", str(file), *options]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("OLLAMA_")}
    with (
        (directory / "log").open("w") as log,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True, env=environ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def greeting(process: subprocess.Popen[str]) -> str:
    """Return the URL of the one line that points a client at Corral."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Corral is ready: http://127.0.0.1:"), line
    return line.split()[3]


def refusal(process: subprocess.Popen[str], directory: Path) -> str:
    """Return what it said before it ended with 2, having started nothing."""
    assert process.wait(PATIENCE_S) == 2
    return (directory / "log").read_text()


def test_a_fleet_may_consist_of_workers_that_somebody_else_runs(tmp_path: Path) -> None:
    """Then only the gateway is kept alive."""
    more = "workers: []\nexternal: [{name: attic, url: 'http://127.0.0.1:1', memory: 1GiB}]"
    with corral_up(tmp_path, more=more) as process:
        assert "version" in json.loads(get(f"{greeting(process)}/api/version"))


def test_one_command_brings_up_workers_and_gateway_behind_one_port(tmp_path: Path) -> None:
    """The line that points a client there is true, and SIGTERM ends everything with 0."""
    with corral_up(tmp_path) as process:
        url = greeting(process)
        assert json.loads(get(f"{url}/api/tags")) == {"models": []}
        assert (tmp_path / "run" / "endpoint").read_text() == f"{url}\n"
        everybody = children_of(process.pid)
        assert len(everybody) == 4
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert not any(map(exists, everybody))


def test_no_request_is_lost_when_the_gateway_is_killed(tmp_path: Path) -> None:
    """The listening socket is the supervisor's, so clients wait for the next gateway."""
    with corral_up(tmp_path) as process:
        url = greeting(process)
        gateway = next(pid for pid in children_of(process.pid) if b"gateway" in _command(pid))
        os.kill(gateway, signal.SIGKILL)
        eventually(lambda: not exists(gateway), "the gateway's end")
        with ThreadPoolExecutor(8) as clients:
            answers = set(clients.map(get, [f"{url}/api/version"] * 8))
        assert len(answers) == 1


def test_nothing_is_left_of_the_real_thing_after_kill_9(tmp_path: Path) -> None:
    """Workers, gateway and keeper are gone two seconds later."""
    with corral_up(tmp_path) as process:
        greeting(process)
        everybody = children_of(process.pid)
        process.kill()
        eventually(lambda: not any(map(exists, everybody)), "everybody's end", within_s=2)


def test_a_taken_port_is_refused_with_the_name_of_who_has_it(tmp_path: Path) -> None:
    """Exit code 2, one sentence with the process and both remedies, and nothing was started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with corral_up(tmp_path, port=port) as process:
            said = refusal(process, tmp_path)
    assert f"127.0.0.1:{port} is taken by process {os.getpid()} (" in said
    assert said.endswith(": stop it, or set another `listen`\n")


def test_the_next_free_port_is_taken_where_that_was_asked_for(tmp_path: Path) -> None:
    """It still says who has the first one."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with corral_up(tmp_path, "--next-free-port", port=port) as process:
            url = greeting(process)
    assert int(url.rpartition(":")[2]) > port
    assert f"is taken by process {os.getpid()} (" in (tmp_path / "log").read_text()


def test_a_second_corral_in_the_same_runtime_directory_is_refused(tmp_path: Path) -> None:
    """It names the process of the first."""
    with corral_up(tmp_path) as first:
        greeting(first)
        with corral_up(tmp_path) as second:
            assert f"another supervisor (process {first.pid})" in refusal(second, tmp_path)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("cpu_wrokers: 2", "cpu_wrokers"),
        ("workers: [{name: a, gpus: [7]}]", "there is no GPU 7"),
    ],
)
def test_a_wrong_configuration_starts_nothing(tmp_path: Path, more: str, words: str) -> None:
    """Exit code 2 and what is wrong where."""
    with corral_up(tmp_path, more=more) as process:
        said = refusal(process, tmp_path)
    assert words in said
    assert f"{tmp_path / 'corral.yaml'}:5: " in said
    assert not (tmp_path / "run").exists()


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
