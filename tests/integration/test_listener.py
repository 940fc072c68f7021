from __future__ import annotations

import os
import socket

import pytest

from supervisor.host.listener import ListenError, PortTakenError, open_listener, open_next_free, url_of


def _port(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def test_a_taken_port_is_refused_with_the_name_of_who_has_it() -> None:
    """The process, and both remedies."""
    with open_listener("127.0.0.1:0") as first:
        listen = f"127.0.0.1:{_port(first)}"
        with pytest.raises(PortTakenError) as refusal:
            open_listener(listen)
    assert str(refusal.value).startswith(f"{listen} is taken by process {os.getpid()} (")
    assert str(refusal.value).endswith(": stop it, or set another `listen`")


def test_a_port_taken_on_all_addresses_is_found_too() -> None:
    """The holder may listen on IPv6 for everybody."""
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as first,
        pytest.raises(PortTakenError, match=f"process {os.getpid()} "),
    ):
        open_listener(f"127.0.0.1:{_port(first)}")


def test_the_next_free_port_is_taken_where_that_was_asked_for() -> None:
    """The first one above that nobody has."""
    with open_listener("127.0.0.1:0") as first, open_next_free(f"127.0.0.1:{_port(first)}") as second:
        assert _port(second) > _port(first)


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        ("203.0.113.1:4711", "this machine does not have that address"),
        ("no.host.invalid:80", "no known host"),
    ],
)
def test_an_address_that_is_not_ours_is_refused(listen: str, words: str) -> None:
    """With the key that must be changed."""
    with pytest.raises(ListenError, match=words) as refusal:
        open_listener(listen)
    assert str(refusal.value).startswith(f"listen: {listen}: ")


def test_a_child_inherits_the_socket() -> None:
    """That is how the gateway gets it."""
    with open_listener("127.0.0.1:0") as listener:
        assert listener.get_inheritable()


@pytest.mark.parametrize(
    ("listen", "host"), [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1"), ("[::1]:0", "[::1]")]
)
def test_the_url_is_one_that_a_client_here_can_use(listen: str, host: str) -> None:
    """Where we listen everywhere it is loopback."""
    with open_listener(listen) as listener:
        assert url_of(listener) == f"http://{host}:{_port(listener)}"
