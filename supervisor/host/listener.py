"""Opens the socket that clients connect to, and says who has the port where that fails.

Decides nothing about who may listen where: the configuration has done so.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

BACKLOG: Final = 4096
"""Connections that wait here while a gateway is replaced. The kernel cuts it to net.core.somaxconn."""
_LISTENING: Final = "0A"
_PROC: Final = Path("/proc")


class ListenError(Exception):
    """The address cannot be listened on; the text says why and what to do."""


class PortTakenError(ListenError):
    """Another process listens there."""


def open_listener(listen: str) -> socket.socket:
    """Return a listening, inheritable socket for HOST:PORT.

    Raises:
        PortTakenError: the port is taken; the text names the process and both remedies.
        ListenError: the address is not this machine's, or the port is a privileged one.
    """
    family, address = resolve(listen)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _explain(listen, error) from error
    listener.set_inheritable(True)
    return listener


def open_next_free(listen: str) -> socket.socket:
    """Return a listening socket for the first free port after the one of `listen`.

    Raises:
        ListenError: there is none.
    """
    host, _, port = listen.rpartition(":")
    for candidate in range(int(port) + 1, 65536):
        try:
            return open_listener(f"{host}:{candidate}")
        except PortTakenError:
            continue
    raise ListenError(f"no port above {port} is free on {host}: free one, or set another `listen`")


def url_of(listener: socket.socket) -> str:
    """Return the address for clients on this machine; where we listen everywhere, loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- read, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def holder_of(port: int) -> str:
    """Say which process listens on a TCP port of this machine, as far as we may see."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening_inodes(table, port)}
    pids = sorted(pid for pid, inode in _socket_owners() if inode in inodes)
    if not pids:
        return "a process of another user"
    return f"process {pids[0]} ({_command(pids[0])})"


def resolve(listen: str) -> tuple[int, tuple[str, int]]:
    """Return address family and address of HOST:PORT.

    Raises:
        ListenError: nobody knows the host.
    """
    host, _, port = listen.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise ListenError(f"listen: {listen}: {host} is no known host ({error.strerror})") from error
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)  # clients try 127.0.0.1 first
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


def _explain(listen: str, error: OSError) -> ListenError:
    port = int(listen.rpartition(":")[2])
    match error.errno:
        case errno.EADDRINUSE:
            return PortTakenError(f"{listen} is taken by {holder_of(port)}: stop it, or set another `listen`")
        case errno.EACCES:
            return ListenError(
                f"listen: {listen}: ports below 1024 need CAP_NET_BIND_SERVICE: set a higher port"
            )
        case errno.EADDRNOTAVAIL:
            return ListenError(f"listen: {listen}: this machine does not have that address")
        case _:
            return ListenError(f"listen: {listen}: {error.strerror}")


def _listening_inodes(table: str, port: int) -> Iterator[str]:
    """Yield the inodes of listening sockets; the columns are those of proc(5)."""
    try:
        lines = (_PROC / "net" / table).read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        columns = line.split()
        if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
            yield columns[9]


def _socket_owners() -> Iterator[tuple[int, str]]:
    """Yield (pid, inode) for the sockets of every process that we may look into."""
    for process in _PROC.iterdir():
        if process.name.isdigit():
            for target in _descriptors(process):
                if target.startswith("socket:["):
                    yield int(process.name), target[8:-1]


def _descriptors(process: Path) -> Iterator[str]:
    try:
        for descriptor in (process / "fd").iterdir():
            yield str(descriptor.readlink())
    except OSError:
        return  # ended meanwhile, or not ours to see


def _command(pid: int) -> str:
    try:
        return (
            (_PROC / str(pid) / "cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode("utf-8", "replace")
            .strip()
        )
    except OSError:
        return "ended meanwhile"
