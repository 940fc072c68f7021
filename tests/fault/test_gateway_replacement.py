"""What the supervisor does when gateways die in the middle of an upgrade; a fake one says who it is."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.supervisor import PATIENCE_S, RunningSupervisor, children_of, eventually, get, supervisor

TIMINGS = {"drain_timeout_s": 0.2, "stop_timeout_s": 5.0}


def restart(corral: RunningSupervisor, *, wait: bool = True) -> dict[str, Any]:
    """Ask for an upgrade on the control socket; return the last answer."""
    return said(corral, wait=wait)[-1]


def said(corral: RunningSupervisor, *, wait: bool = True) -> list[dict[str, Any]]:
    """Do the same, and hang up at the last answer; return all."""
    answers: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(corral.directory / "control.sock"))
        client.sendall(json.dumps({"command": "restart-gateway", "wait": wait}).encode() + b"\n")
        for line in client.makefile("rb"):
            answers.append(json.loads(line))
            if answers[-1].keys() & {"done", "error"}:
                break
    return answers


def gateways(corral: RunningSupervisor) -> list[int]:
    """Return the pids of all gateways, the oldest first."""
    return sorted(pid for pid in children_of(corral.pid) if b"fake_gateway.py" in _command(pid))


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@contextmanager
def upgrading(corral: RunningSupervisor) -> Iterator[tuple[int, int, Future[dict[str, Any]]]]:
    """Have an upgrade wait, in the block, for the new gateway to come up; it may at the end."""
    hold = corral.directory / "hold"
    hold.touch()
    (old,) = gateways(corral)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(restart, corral)
        eventually(lambda: len(gateways(corral)) == 2, "a second gateway")
        (new,) = set(gateways(corral)) - {old}
        try:
            yield old, new, asked
        finally:
            hold.unlink(missing_ok=True)


def test_the_old_one_ends_when_its_time_is_over(tmp_path: Path) -> None:
    """A gateway that does not end by itself is asked to, and the new one is not hit by that."""
    with supervisor(tmp_path, {"name": "a"}, timings=TIMINGS) as corral:
        url = corral.wait_until_ready()
        (old,) = gateways(corral)
        done = restart(corral)["done"]
        assert done["old_pid"] == old
        eventually(lambda: gateways(corral) == [done["pid"]], "the old one's end")
        assert int(get(url)) == done["pid"]


def test_a_new_one_that_ends_while_it_starts_leaves_the_old_one(tmp_path: Path) -> None:
    """It is not started again; the next upgrade works."""
    with supervisor(tmp_path, {"name": "a"}, timings=TIMINGS) as corral:
        url = corral.wait_until_ready()
        with upgrading(corral) as (old, new, asked):
            os.kill(new, signal.SIGKILL)
            assert "killed by signal 9" in asked.result(PATIENCE_S)["error"]
        assert gateways(corral) == [old]
        assert int(get(url)) == old
        assert "done" in restart(corral)


def test_an_old_one_that_dies_meanwhile_is_replaced_by_the_new_one_alone(tmp_path: Path) -> None:
    """Two that both believe to be the first would give every slot twice."""
    with supervisor(tmp_path, {"name": "a"}, timings=TIMINGS) as corral:
        url = corral.wait_until_ready()
        with upgrading(corral) as (old, new, asked):
            os.kill(old, signal.SIGKILL)
            eventually(lambda: gateways(corral) == [new], "only the new one")
        assert asked.result(PATIENCE_S)["done"]["pid"] == new
        assert gateways(corral) == [new]
        assert int(get(url)) == new
        os.kill(new, signal.SIGKILL)
        eventually(lambda: gateways(corral) not in ([], [new]), "it is kept running")


def test_when_both_die_a_third_one_comes(tmp_path: Path) -> None:
    """The upgrade failed, and there is a gateway all the same."""
    with supervisor(tmp_path, {"name": "a"}, timings=TIMINGS) as corral:
        url = corral.wait_until_ready()
        with upgrading(corral) as (old, new, asked):
            for pid in (old, new):
                os.kill(pid, signal.SIGKILL)
            assert "error" in asked.result(PATIENCE_S)
        assert int(get(url)) not in (old, new)


def test_a_second_order_waits_and_gets_a_gateway_of_its_own(tmp_path: Path) -> None:
    """What was installed between the two must be what runs in the end."""
    with supervisor(tmp_path, {"name": "a"}, timings=TIMINGS) as corral:
        corral.wait_until_ready()
        with ThreadPoolExecutor(1) as pool:
            with upgrading(corral) as (old, new, first):
                second = pool.submit(said, corral)
                eventually(lambda: asked(corral) == 2, "both orders")
            assert first.result(PATIENCE_S)["done"] == {"old_pid": old, "pid": new}
            waits, _, last = second.result(PATIENCE_S)
        assert waits == {"progress": "waits for the restart of the gateway that is under way"}
        assert last["done"]["old_pid"] == new
        eventually(lambda: gateways(corral) == [last["done"]["pid"]], "the last one alone")


def test_who_does_not_wait_hears_at_once_and_gets_a_gateway_all_the_same(tmp_path: Path) -> None:
    """The log tells of the end, whether good or bad."""
    with supervisor(tmp_path, {"name": "a"}, timings=TIMINGS) as corral:
        corral.wait_until_ready()
        (old,) = gateways(corral)
        hold = corral.directory / "hold"
        hold.touch()
        assert "is being replaced" in restart(corral, wait=False)["done"]["result"]
        eventually(lambda: len(gateways(corral)) == 2, "a second gateway")
        hold.unlink()
        eventually(lambda: old not in gateways(corral), "the old one's end")
        (told,) = (line for line in corral.log() if line["event"] == "the gateway was replaced")
        assert [told["pid"]] == gateways(corral)


def asked(corral: RunningSupervisor) -> int:
    """Return how often an upgrade was asked for so far."""
    return sum(line.get("command") == "restart-gateway" for line in corral.log())


def test_a_stop_during_an_upgrade_ends_both(tmp_path: Path) -> None:
    """Nothing is left of them."""
    with supervisor(tmp_path, {"name": "a"}, timings=TIMINGS) as corral:
        corral.wait_until_ready()
        with upgrading(corral) as (_, _, asked):
            assert corral.stop() == 0
            asked.exception(PATIENCE_S)
        assert not list(corral.directory.glob("*.sock"))
