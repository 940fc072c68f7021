"""A whole `corral up` under a systemd of the test's own, which listens, keeps a socket and starts it again.

What a real one makes of it: tests/fault/test_systemd_restart.py, where a machine can be booted.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from supervisor.host.inherited import STORED
from tests.support.corral import COMMAND, plain_environment, write_config
from tests.support.models import counting_model
from tests.support.service_manager import Listening, listening
from tests.support.supervisor import PATIENCE_S, children_of, eventually, exists, get

PASS = 'exec 3<&"$CORRAL_TEST_FD"; LISTEN_PID=$$ exec "$0" "$@"'
"""What makes a shell a process that was passed a socket."""


@dataclass(slots=True)
class Manager:
    """The stand-in for systemd."""

    directory: Path
    listens: Listening

    @contextmanager
    def start(
        self, *, watchdog_s: float = 30.0, stored: int | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start `corral up`, with the socket that was kept for it; killed afterwards."""
        environ = plain_environment() | {
            "NOTIFY_SOCKET": self.listens.address,
            "WATCHDOG_USEC": str(int(watchdog_s * 1e6)),
        }
        argv = [COMMAND, "up", "--config", str(self.directory / "corral.yaml")]
        if stored is not None:
            environ |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": STORED, "CORRAL_TEST_FD": str(stored)}
            argv = ["/bin/bash", "-c", PASS, *argv]
        fds = () if stored is None else (stored,)
        with (
            (self.directory / "log").open("a") as log,
            subprocess.Popen(argv, stdout=log, stderr=log, env=environ, pass_fds=fds) as process,
        ):
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """One that has a configuration for one worker."""
    counting_model(tmp_path / "models")
    write_config(tmp_path, cpu_workers=1)
    with listening(f"@corral{tmp_path}") as listens:
        yield Manager(tmp_path, listens)


def url_of(fd: int) -> str:
    """Return the URL of a kept socket."""
    with socket.socket(fileno=os.dup(fd)) as kept:
        return f"http://127.0.0.1:{kept.getsockname()[1]}"


def test_a_life_as_systemd_hears_it(manager: Manager) -> None:
    """The socket to be kept first, then time, READY=1, the watchdog's food, a reload, the stop."""
    listens = manager.listens
    with manager.start(watchdog_s=1.0) as process:
        first, (kept,) = listens.receive()
        assert first.startswith(f"FDSTORE=1\nFDNAME={STORED}\n")
        assert listens.wait_for("EXTEND_TIMEOUT_USEC=")
        assert listens.wait_for("READY=1")
        assert listens.lines[-1] == f"STATUS=Serving {url_of(kept)}: 1 of 1 workers ready"
        assert listens.wait_for("WATCHDOG=1")
        process.send_signal(signal.SIGHUP)
        assert listens.wait_for("RELOADING=1")
        assert listens.wait_for("READY=1")
        assert "; last reload at " in listens.lines[-1]
        process.terminate()
        assert listens.wait_for("STOPPING=1")
        assert process.wait(PATIENCE_S) == 0
    assert not any(line.startswith("FDSTOREREMOVE") for line in listens.lines)


def test_a_bad_file_is_told_in_the_status(manager: Manager) -> None:
    """And it goes on as it was."""
    listens = manager.listens
    with manager.start() as process:
        listens.wait_for("READY=1")
        write_config(manager.directory, cpu_workers="many")
        process.send_signal(signal.SIGHUP)
        listens.wait_for("RELOADING=1")
        listens.wait_for("READY=1")
        status = listens.lines[-1]
        assert status.startswith("STATUS=Serving http://")
        assert "nothing was changed" in status
        assert "cpu_workers" in status


def test_a_killed_one_is_succeeded_on_the_same_socket(manager: Manager) -> None:
    """Who connected while there was none is answered, and nothing is left of the one before."""
    listens = manager.listens
    with manager.start() as process:
        _, (kept,) = listens.receive()
        listens.wait_for("READY=1")
        family = children_of(process.pid)
        process.kill()
        process.wait(PATIENCE_S)
        eventually(lambda: not any(map(exists, family)), "the end of all it started")
    address = url_of(kept).removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=PATIENCE_S) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with manager.start(stored=kept):
            assert b"Ollama is running" in client.makefile("rb").read()
            listens.wait_for("READY=1")
            assert b"Ollama is running" in get(url_of(kept))
            log = (manager.directory / "log").read_text()
    assert '"event": "took over the socket"' in log
    assert listens.stored == [kept], "it is not given to be kept a second time"


def test_the_status_says_why_nothing_was_started(manager: Manager) -> None:
    """A wrong file, and a port that somebody has: `systemctl status` shows it without the journal."""
    (manager.directory / "corral.yaml").write_text("nonsense: 1\n")
    with manager.start() as process:
        told = manager.listens.wait_for("STATUS=")
        assert process.wait(PATIENCE_S) == 2
    assert told.startswith("STATUS=Not started: ")
    assert "corral.yaml:1: nonsense: is not known here" in told
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        write_config(manager.directory, listen=address)
        with manager.start() as process:
            told = manager.listens.wait_for("STATUS=")
            assert process.wait(PATIENCE_S) == 2
    assert told.startswith(f"STATUS=Not started: {address} is taken by process {os.getpid()}")
