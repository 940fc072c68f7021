"""What clients notice of Corral under a real systemd that restarts, stops or reloads it: as little as can be.

The machine is a container (tests/support/booted.py); where none can be booted the tests are skipped and say
why. tests/integration/test_systemd_service.py shows the same protocol against a systemd of the test's own.
"""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.support.booted import Machine, NotBootedError, booted
from tests.support.models import counting_model
from tests.support.supervisor import PATIENCE_S, eventually

CLIENTS = 8
BODY = json.dumps(
    {"model": "count", "prompt": "go", "stream": False, "options": {"num_predict": 3, "temperature": 0}}
).encode()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One that runs through all tests of this file."""
    directory: Path = tmp_path_factory.mktemp("booted")
    model = counting_model(directory / "models")
    try:
        with booted(directory, model) as booted_machine:
            yield booted_machine
    except NotBootedError as reason:
        pytest.skip(str(reason))


@pytest.fixture
def running(machine: Machine) -> Iterator[Machine]:
    """The machine with Corral started as its operator does; stopped, and nothing left, afterwards."""
    machine.succeeds("systemctl", "reset-failed", "corral.service")
    machine.systemctl("start", "corral.service")
    yield machine
    machine.systemctl("stop", "corral.service")
    assert left_behind(machine) == ""


def ask(url: str) -> str:
    """Ask one question on a connection of its own; return the answer, or raise what the client saw."""
    request = urllib.request.Request(f"{url}/api/generate", BODY)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=2 * PATIENCE_S) as response:
        answer: dict[str, Any] = json.load(response)
    return str(answer["response"])


def ask_at_once(machine: Machine, pool: ThreadPoolExecutor) -> list[Future[str]]:
    """Have all clients ask; return when all have connected, whoever accepts."""
    asked = [pool.submit(ask, machine.url) for _ in range(CLIENTS)]
    eventually(lambda: all(future.running() or future.done() for future in asked), "that all have asked")
    return asked


def left_behind(machine: Machine) -> str:
    """Return what a stop should have ended: processes, the port, the kept socket, the runtime directory."""
    found = [f"process {pid}" for pid in machine.processes()]
    if machine.show("NFileDescriptorStore") != "0":
        found.append("a kept descriptor")
    with socket.socket() as client:
        if client.connect_ex(("127.0.0.1", machine.port)) == 0:
            found.append("the port")
    if (machine.root / "run/corral").exists() or machine.succeeds("test", "-e", "/run/corral"):
        found.append("/run/corral")
    return ", ".join(found)


def main_pid(machine: Machine) -> int:
    """Return the supervisor's pid, seen from inside."""
    return int(machine.show("MainPID"))


def wait_for_successor(machine: Machine, pid: int) -> None:
    """Wait until systemd has started another one, and it serves."""
    eventually(
        lambda: main_pid(machine) not in (0, pid) and machine.show("ActiveState") == "active",
        "another supervisor that serves",
        within_s=2 * PATIENCE_S,
    )


def test_systemd_calls_it_started_when_it_serves(running: Machine) -> None:
    """`systemctl start` has returned: the first request is answered, and the status is a sentence."""
    assert ask(running.url) == "1 2 3"
    assert running.show("ActiveState") == "active"
    serving = f"Serving {running.url}: 1 of 1 workers ready"
    eventually(
        lambda: running.show("StatusText") == f"{serving}; 1 model loaded", "the model in the status line"
    )


def test_killed_supervisor_refuses_nobody(running: Machine) -> None:
    """SIGKILL of main: everything of it dies; who connects in the gap waits in the kept socket."""
    pid = main_pid(running)
    with ThreadPoolExecutor(CLIENTS) as pool:
        running.signal_main("SIGKILL")
        eventually(lambda: main_pid(running) != pid, "its end")
        asked = ask_at_once(running, pool)
        assert [future.result() for future in asked] == ["1 2 3"] * CLIENTS
    wait_for_successor(running, pid)
    assert '"took over the socket"' in running.journal()


def test_hanging_supervisor_is_replaced(running: Machine) -> None:
    """SIGSTOP of main: the watchdog ends it and all it started; who connects meanwhile is answered."""
    pid = main_pid(running)
    gateway = [other for other in running.processes() if other != str(pid)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        running.signal_main("SIGSTOP")
        eventually(lambda: main_pid(running) != pid, "the watchdog", within_s=PATIENCE_S)
        asked = ask_at_once(running, pool)
        assert [future.result() for future in asked] == ["1 2 3"] * CLIENTS
    wait_for_successor(running, pid)
    assert not set(gateway) & set(running.processes())
    assert "Watchdog timeout" in running.journal()
    assert "Fatal Python error: Aborted" in running.journal(), "it says where it hung"


def test_restart_under_load_fails_no_request(running: Machine) -> None:
    """`systemctl restart` while clients ask one after another: each gets its answer."""
    pid, enough = main_pid(running), Event()

    def client() -> list[str]:
        answers = []
        while not enough.is_set():
            answers.append(ask(running.url))
        return answers

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client) for _ in range(4)]
        try:
            running.systemctl("restart", "corral.service")
        finally:
            enough.set()
        answers = [answer for one in clients for answer in one.result()]
    assert main_pid(running) != pid
    assert set(answers) == {"1 2 3"}


def test_stop_leaves_nothing(running: Machine) -> None:
    """No process, no descriptor in systemd, no socket, no runtime directory: the next client is refused."""
    ask(running.url)
    assert len(running.processes()) >= 4
    assert running.show("NFileDescriptorStore") == "1"
    running.systemctl("stop", "corral.service")
    assert left_behind(running) == ""
    assert running.show("Result") == "success"


def test_socket_unit_starts_it_with_the_first_client(machine: Machine) -> None:
    """Who connects before Corral was started is answered; nothing is opened or kept twice."""
    machine.succeeds("systemctl", "reset-failed", "corral.service")
    machine.systemctl("start", "corral.socket")
    try:
        assert not machine.processes()
        assert ask(machine.url) == "1 2 3"
        assert machine.show("NFileDescriptorStore") == "0"
        pid = main_pid(machine)
        machine.signal_main("SIGKILL")
        assert ask(machine.url) == "1 2 3"
        wait_for_successor(machine, pid)
    finally:
        machine.systemctl("stop", "corral.socket", "corral.service")
    assert left_behind(machine) == ""


def test_a_mistake_in_the_file_is_a_failure_with_its_line(machine: Machine) -> None:
    """`systemctl start` fails at once, and the journal has the sentence."""
    file = machine.root / "etc/corral/corral.yaml"
    right = file.read_text()
    file.write_text("listne: 127.0.0.1:1\n")
    try:
        assert not machine.succeeds("systemctl", "start", "corral.service")
        assert "/etc/corral/corral.yaml" in machine.journal()
        assert "listne" in machine.journal()
    finally:
        file.write_text(right)
        machine.systemctl("stop", "corral.service")
