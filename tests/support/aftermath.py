"""What must be so again after a fault, whatever it was: no slot, queue, process or descriptor is left behind.

`assert_all_is_back` looks at a Corral from outside (its operator's socket, the workers' own counts, /proc)
until everything is back, and names what is not. `all_comes_back` does so around a block and also compares
descriptors with those before it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tests.support.corral import Corral
from tests.support.supervisor import PATIENCE_S, children_of, eventually, exists, get

_LISTENING: Final = "0A"
_TIME_WAIT: Final = "06"
_NO_PROCESS: Final = 0


class _OnUnixSocket(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(str(self._path))


def ask_gateway(runtime_dir: Path, path: str) -> Any:
    """Return the JSON of a path on the operator's socket of the gateway."""
    connection = _OnUnixSocket(runtime_dir / "gateway.sock")
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


# What is left -----------------------------------------------------------------


def assert_all_is_back(
    running: Corral, *, but: Iterable[str] = (), within_s: float = PATIENCE_S, **descriptors: int
) -> None:
    """Wait until a Corral is as if nothing had happened, and fail with the list of what is not.

    That is: every worker ready, none of its slots taken, none computing; nobody waits; no process that is
    neither gateway, keeper, worker nor the runner of a loaded model; no connection of a client.

    Args:
        running: The Corral; the test must have closed its own clients.
        but: Workers that are not expected to be ready (quarantined ones).
        within_s: How long all that may take.
        descriptors: The most that `gateway` and `supervisor` may hold, connections to workers apart.
    """
    _until_nothing(lambda: list(_leftovers(running, frozenset(but), descriptors)), within_s)


def assert_gateway_is_back(runtime_dir: Path, pid: int, url: str, *, within_s: float = PATIENCE_S) -> None:
    """The same of a gateway alone (`corral gateway`): its slots, its queue and its clients' connections."""
    port = urlsplit(url).port or 0
    _until_nothing(lambda: [*_of_requests(runtime_dir), *_of_clients(pid, port)], within_s)


@contextmanager
def all_comes_back(
    running: Corral, *, but: Iterable[str] = (), within_s: float = PATIENCE_S
) -> Iterator[None]:
    """Assert that all is back after the block, descriptors of gateway and supervisor included."""
    before = descriptors(running)
    yield
    assert_all_is_back(running, but=but, within_s=within_s, **before)


def descriptors(running: Corral) -> dict[str, int]:
    """Return how many descriptors gateway and supervisor hold; connections to workers come and go."""
    ports = _worker_ports(running)
    pids = {"gateway": gateway_pid(running), "supervisor": running.process.pid}
    return {name: _Sockets().count(pid, without=ports) for name, pid in pids.items()}


def gateway_pid(running: Corral) -> int:
    """Return the pid of the gateway; 0 while there is none, or more than one."""
    found = [pid for pid in children_of(running.process.pid) if _is_gateway(pid)]
    return found[0] if len(found) == 1 else _NO_PROCESS


def _until_nothing(leftovers: Any, within_s: float) -> None:
    seen: list[str] = []

    def nothing_left() -> bool:
        seen[:] = leftovers()
        return not seen

    try:
        eventually(nothing_left, "all is back", within_s=within_s)
    except AssertionError:
        raise AssertionError(f"left behind after {within_s} s:\n" + "\n".join(seen)) from None


def _leftovers(running: Corral, but: frozenset[str], most: dict[str, int]) -> Iterator[str]:
    gateway = gateway_pid(running)
    if gateway == _NO_PROCESS:
        yield "there is not exactly one gateway"
        return
    runtime_dir = running.directory / "run"
    try:
        fleet = ask_gateway(runtime_dir, "/corral/fleet")["workers"]
        yield from _of_requests(runtime_dir)
    except OSError as error:
        yield f"the gateway does not answer: {error}"
        return
    for worker in fleet:
        if worker["worker"] not in but:
            yield from _of_worker(worker, running.engine)
    yield from _of_processes(running, gateway, fleet)
    yield from _of_clients(gateway, urlsplit(running.url).port or 0)
    if most:
        held = descriptors(running)
        yield from (
            f"{name} holds {held[name]} descriptors, not {n}" for name, n in most.items() if held[name] > n
        )


def _of_requests(runtime_dir: Path) -> Iterator[str]:
    fleet = ask_gateway(runtime_dir, "/corral/fleet")
    for worker in fleet["workers"]:
        taken = {model["name"]: model["busy"] for model in worker["resident"] if model.get("busy")}
        if taken:
            yield f"{worker['worker']}: slots are taken: {taken}"
    if fleet["queue"]:
        yield f"somebody waits: {fleet['queue']}"
    waiting = ask_gateway(runtime_dir, "/corral/queue")["waiting"]
    if waiting:
        yield f"somebody is in line: {waiting}"


def _of_worker(worker: dict[str, Any], engine: str) -> Iterator[str]:
    name = worker["worker"]
    if worker["state"] != "ready":
        yield f"{name} is {worker['state']}: {worker['reason']}"
        return
    phases = {model["name"]: model["phase"] for model in worker["resident"] if model["phase"] != "resident"}
    if phases:
        yield f"{name} has work with models: {phases}"
    if engine == "embedded":
        try:
            slots = json.loads(get(f"{worker['base_url']}/corral/slots"))
        except OSError as error:  # it was killed a moment ago, and nobody has noticed yet
            yield f"{name} does not answer: {error}"
            return
        if slots["busy"] or slots["pending"]:
            yield f"{name} computes or queues for nobody: {slots}"


def _of_processes(running: Corral, gateway: int, fleet: list[dict[str, Any]]) -> Iterator[str]:
    workers = {worker["pid"]: worker for worker in fleet if worker["pid"]}
    for pid in children_of(running.process.pid):
        known = pid in (*workers, gateway) or b"keeper.py" in _command(pid)
        if not known and exists(pid):
            yield f"process {pid} is nobody's: {_command(pid).decode(errors='replace')}"
    for pid, worker in workers.items():
        runners = [child for child in children_of(pid) if exists(child)]
        if len(runners) > len(worker["resident"]):
            yield f"{worker['worker']} has {len(runners)} runners for {len(worker['resident'])} loaded models"


def _of_clients(gateway: int, port: int) -> Iterator[str]:
    connected = _Sockets().connections(gateway, port)
    if connected:
        yield f"the gateway has {connected} connections of clients"


# What the kernel tells --------------------------------------------------------


@dataclass(slots=True)
class _Sockets:
    """The TCP sockets of this machine, by inode: local and remote port, and state."""

    table: dict[str, tuple[int, int, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("tcp", "tcp6"):
            with suppress(OSError):
                lines = Path("/proc/net", name).read_text().splitlines()[1:]
                self.table |= {row[9]: _row(row) for row in map(str.split, lines)}

    def connections(self, pid: int, port: int) -> int:
        """Return how many connections to this local port the process holds."""
        return sum(
            local == port and state not in (_LISTENING, _TIME_WAIT) for local, _, state in self._of(pid)
        )

    def count(self, pid: int, *, without: frozenset[int]) -> int:
        """Return how many descriptors it holds, connections to these ports left out."""
        to_workers = sum(remote in without for _, remote, _ in self._of(pid))
        return len(_targets(pid)) - to_workers

    def _of(self, pid: int) -> list[tuple[int, int, str]]:
        inodes = (target[8:-1] for target in _targets(pid) if target.startswith("socket:["))
        return [self.table[inode] for inode in inodes if inode in self.table]


def _row(columns: list[str]) -> tuple[int, int, str]:
    local, remote = (int(columns[at].rpartition(":")[2], 16) for at in (1, 2))
    return local, remote, columns[3]


def _targets(pid: int) -> list[str]:
    found = []
    with suppress(OSError):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found.append(str(path.readlink()))
    return found


def _worker_ports(running: Corral) -> frozenset[int]:
    fleet = ask_gateway(running.directory / "run", "/corral/fleet")["workers"]
    return frozenset(urlsplit(worker["base_url"]).port or 0 for worker in fleet)


def resident_bytes(pid: int) -> int:
    """Return the memory that a process has of its own and in use (RSS)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _is_gateway(pid: int) -> bool:
    return b"\0-m\0gateway\0" in _command(pid) and exists(pid)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
