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
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any
from urllib.error import HTTPError

import pytest
import yaml

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
    """Ask one question on a connection of its own; return the answer, or what was said instead."""
    request = urllib.request.Request(f"{url}/api/generate", BODY)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=2 * PATIENCE_S) as response:
            answer: dict[str, Any] = json.load(response)
    except HTTPError as error:
        with error:
            return f"{error.code}: {error.read().decode()}"
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


def wait_for_end(machine: Machine, processes: list[str]) -> None:
    """Wait until none of them is left; one that has not noticed yet could still accept a client."""
    eventually(lambda: not set(processes) & set(machine.processes()), "the end of all", within_s=PATIENCE_S)


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
    pid, everybody = main_pid(running), running.processes()
    with ThreadPoolExecutor(CLIENTS) as pool:
        running.signal_main("SIGKILL")
        wait_for_end(running, everybody)
        asked = ask_at_once(running, pool)
        assert [future.result() for future in asked] == ["1 2 3"] * CLIENTS
    wait_for_successor(running, pid)
    assert '"took over the socket"' in running.journal()


@pytest.mark.slow
def test_hanging_supervisor_is_replaced(running: Machine) -> None:
    """SIGSTOP of main: the watchdog ends it and all it started; who connects meanwhile is answered."""
    pid, everybody = main_pid(running), running.processes()
    with ThreadPoolExecutor(CLIENTS) as pool:
        running.signal_main("SIGSTOP")
        wait_for_end(running, everybody)
        asked = ask_at_once(running, pool)
        assert [future.result() for future in asked] == ["1 2 3"] * CLIENTS
    wait_for_successor(running, pid)
    assert "Watchdog timeout" in running.journal()
    assert "Fatal Python error: Aborted" in running.journal(), "it says where it hung"


def test_restart_under_load_fails_no_request(running: Machine) -> None:
    """`systemctl restart` while clients ask one after another: each gets its answer.

    There are as many slots as clients: who waits in Corral's own queue when it ends is told to come again.
    Seeded: without `leave_to_successor` in `gateway/app.py` some are told so who came later.
    """
    ask(running.url)
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


@contextmanager
def configured(machine: Machine, **changes: Any) -> Iterator[None]:
    """Change the configuration file; it is as before afterwards."""
    file = machine.root / "etc/corral/corral.yaml"
    right = file.read_text()
    file.write_text(yaml.safe_dump({**yaml.safe_load(right), **changes}))
    try:
        yield
    finally:
        file.write_text(right)


def test_reload_changes_workers_and_says_so(running: Machine) -> None:
    """`systemctl reload` returns when it is done; the process is the same and so is the model in memory."""
    ask(running.url)
    pid = main_pid(running)
    with configured(running, cpu_workers=2):
        running.systemctl("reload", "corral.service")
        status = running.show("StatusText")
    assert status.startswith(f"Serving {running.url}: 2 of 2 workers ready"), status
    assert "; last reload at " in status
    assert (main_pid(running), running.show("ActiveState")) == (pid, "active")
    running.systemctl("reload", "corral.service")
    assert ask(running.url) == "1 2 3"


def test_reload_of_a_bad_file_fails_and_changes_nothing(running: Machine) -> None:
    """`systemctl reload` fails, the status names the key, and clients notice nothing."""
    with configured(running, cpu_workres=2):
        assert not running.succeeds("systemctl", "reload", "corral.service")
    eventually(lambda: running.show("ActiveState") == "active", "that it goes on")
    assert "nothing was changed" in running.show("StatusText")
    assert "cpu_workres" in running.show("StatusText")
    assert ask(running.url) == "1 2 3"


def test_sighup_storm_under_load_fails_no_request(running: Machine) -> None:
    """Reloads that come faster than they can be done become few."""
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            asked = [pool.submit(ask, running.url) for _ in range(4)]
            running.signal_main("SIGHUP")
            assert [one.result() for one in asked] == ["1 2 3"] * 4
    eventually(lambda: running.show("ActiveState") == "active", "the end of the last reload")


def test_stop_leaves_nothing(running: Machine) -> None:
    """No process, no descriptor in systemd, no socket, no runtime directory: the next client is refused."""
    ask(running.url)
    assert len(running.processes()) >= 4
    assert running.show("NFileDescriptorStore") == "1"
    running.systemctl("stop", "corral.service")
    assert left_behind(running) == ""
    assert running.show("Result") == "success"


def test_stop_during_a_reload_is_no_failure(running: Machine) -> None:
    """Systemd ends `corral reload` by SIGTERM, too; whoever stopped it must not be told of a failure."""
    with configured(running, cpu_workers=4):
        running.systemctl("reload", "--no-block", "corral.service")
        eventually(lambda: running.show("ActiveState") == "reloading", "a reload that goes on")
        running.systemctl("stop", "corral.service")
    assert left_behind(running) == ""
    assert (running.show("Result"), running.show("ActiveState")) == ("success", "inactive")


def test_socket_unit_starts_it_with_the_first_client(machine: Machine) -> None:
    """Who connects before Corral was started is answered; nothing is opened or kept twice."""
    machine.succeeds("systemctl", "reset-failed", "corral.service")
    machine.systemctl("start", "corral.socket")
    try:
        assert not machine.processes()
        assert ask(machine.url) == "1 2 3"
        assert machine.show("NFileDescriptorStore") == "0"
        pid, everybody = main_pid(machine), machine.processes()
        machine.signal_main("SIGKILL")
        wait_for_end(machine, everybody)
        assert ask(machine.url) == "1 2 3"
        wait_for_successor(machine, pid)
    finally:
        machine.systemctl("stop", "corral.socket", "corral.service")
    assert left_behind(machine) == ""


def test_a_mistake_in_the_file_is_a_failure_with_its_line(machine: Machine) -> None:
    """`systemctl start` fails at once, and the journal has the sentence."""
    with configured(machine, listne="127.0.0.1:1"):
        assert not machine.succeeds("systemctl", "start", "corral.service")
    machine.systemctl("stop", "corral.service")
    assert "/etc/corral/corral.yaml" in machine.journal()
    assert "listne" in machine.journal()
