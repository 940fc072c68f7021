"""What a process says to a systemd that is the test's, and which sockets it takes from it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.host.inherited import STORED, Passed, keep, passed_sockets, take_listener
from supervisor.host.listener import ListenError, open_listener
from supervisor.host.notify import NotifySocket, notify_socket
from tests.support.service_manager import Listening, listening
from tests.support.supervisor import ROOT

NOBODY = NotifySocket("")


@pytest.fixture(params=["a path", "an abstract name"])
def systemd(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Listening]:
    """Somebody who listens as systemd does."""
    name = f"{tmp_path}/notify"
    with listening(name if request.param == "a path" else f"@corral{name}") as listens:
        yield listens


def passed(name: str, listen: str = "127.0.0.1:0") -> Passed:
    """A socket as systemd would pass it."""
    return Passed(name, open_listener(listen))


def test_a_datagram_arrives_as_it_was_sent(systemd: Listening) -> None:
    """On a path, and in the abstract namespace where containers have it."""
    NotifySocket(systemd.address).send("READY=1\nSTATUS=well")
    assert systemd.receive() == ("READY=1\nSTATUS=well", [])


def test_a_kept_socket_is_the_same_socket(systemd: Listening) -> None:
    """A client that connected while it was kept is accepted from what systemd gives back."""
    with keep(open_listener("127.0.0.1:0"), NotifySocket(systemd.address)) as listener:
        address = listener.getsockname()
    text, (fd,) = systemd.receive()
    assert text.split("\n") == ["FDSTORE=1", f"FDNAME={STORED}", "FDPOLL=0"]
    with socket.create_connection(address) as client, socket.socket(fileno=fd) as stored:
        accepted, _ = stored.accept()
        with accepted:
            assert accepted.getpeername() == client.getsockname()


def test_a_systemd_that_has_gone_ends_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The log says it; the work goes on."""
    NotifySocket(f"{tmp_path}/nobody").send("READY=1")
    assert "systemd was not told" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("environ", "address", "watchdog_s"),
    [
        ({}, "", None),
        ({"NOTIFY_SOCKET": "/run/systemd/notify"}, "/run/systemd/notify", None),
        ({"NOTIFY_SOCKET": "@notify", "WATCHDOG_USEC": "30000000"}, "@notify", 30.0),
        ({"NOTIFY_SOCKET": "@notify", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, "@notify", None),
        ({"NOTIFY_SOCKET": "@notify", "WATCHDOG_USEC": "0"}, "@notify", None),
        ({"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "30000000"}, "", None),
    ],
)
def test_the_environment_says_who_listens(
    environ: dict[str, str], address: str, watchdog_s: float | None
) -> None:
    """A watchdog of another process is none of ours."""
    assert notify_socket(environ) == NotifySocket(address, watchdog_s)


def test_sockets_are_taken_from_a_real_exec() -> None:
    """Both, by name, and neither is inherited any further; a descriptor that is no socket is closed."""
    program = (
        "import os; from supervisor.host.inherited import passed_sockets as p;"
        "print([(one.name, one.socket.getsockname()[1], one.socket.get_inheritable())"
        " for one in p(os.environ)], os.path.exists('/proc/self/fd/4'))"
    )
    with open_listener("127.0.0.1:0") as first, open_listener("127.0.0.1:0") as second:
        shell = (
            f"exec 3<&{first.fileno()} 5<&{second.fileno()} 4</dev/null; LISTEN_PID=$$ exec "
            '"$0" -W ignore -c "$1"'
        )
        said = subprocess.check_output(
            ["/bin/bash", "-c", shell, sys.executable, program],
            env=os.environ | {"LISTEN_FDS": "3", "LISTEN_FDNAMES": f"corral.socket:other:{STORED}"},
            pass_fds=(first.fileno(), second.fileno()),
            text=True,
            cwd=ROOT,
        )
        ports = [listener.getsockname()[1] for listener in (first, second)]
    told = f"[('corral.socket', {ports[0]}, False), ('{STORED}', {ports[1]}, False)] False"
    assert told in said.splitlines()


def test_sockets_of_another_process_are_left_alone() -> None:
    """The variables reach children too."""
    assert passed_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == ()


@pytest.mark.parametrize("name", [STORED, "corral.socket"])
def test_the_socket_at_the_right_address_is_taken(name: str) -> None:
    """And given on to the gateway."""
    one = passed(name)
    with one.socket:
        assert take_listener(one.address, [one], NOBODY) is one.socket
        assert one.socket.get_inheritable()


def test_any_port_is_right_where_the_file_leaves_it_open() -> None:
    """Port 0 means any free one, and the one of before is best."""
    one = passed(STORED)
    with one.socket:
        assert take_listener("127.0.0.1:0", [one], NOBODY) is one.socket


def test_a_kept_socket_at_another_address_is_given_up(systemd: Listening) -> None:
    """`listen` was changed: nobody is to wait in a socket that is not served any more."""
    one = passed(STORED)
    assert take_listener("127.0.0.2:0", [one], NotifySocket(systemd.address)) is None
    assert one.socket.fileno() == -1
    assert systemd.receive() == (f"FDSTOREREMOVE=1\nFDNAME={STORED}", [])


def test_a_socket_unit_at_another_address_is_refused() -> None:
    """Its clients would wait for ever; the text names both addresses and the ways out."""
    one = passed("corral.socket")
    address = one.address
    with pytest.raises(ListenError) as refusal:
        take_listener("127.0.0.2:0", [one], NOBODY)
    told = str(refusal.value)
    assert told.startswith(f"listen: 127.0.0.2:0: systemd passed {address} (corral.socket): ")
    assert "systemctl disable --now corral.socket" in told


def test_of_two_sockets_the_right_one_is_taken() -> None:
    """A unit that was enabled later may stand beside a kept socket."""
    kept, activated = passed(STORED), passed("corral.socket")
    with activated.socket:
        assert take_listener(activated.address, [kept, activated], NOBODY) is activated.socket
        assert kept.socket.fileno() == -1


def test_what_does_not_listen_is_not_taken() -> None:
    """Nor is a unix socket."""
    with socket.socket() as connectionless, socket.socket(socket.AF_UNIX) as unix:
        assert not Passed("a", connectionless).is_for("127.0.0.1:0")
        assert not Passed("b", unix).is_for("127.0.0.1:0")
