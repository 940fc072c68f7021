"""A gateway whose event loop stands still: replaced by the supervisor, with systemd or without."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.supervisor import children_of, eventually, exists, get, supervisor

QUICK = {"every_s": 0.05, "patience_s": 0.3}


def test_hanging_gateway_is_replaced(tmp_path: Path) -> None:
    """SIGSTOP: it holds the port and answers nobody; who has connected meanwhile is answered by the next.

    Seeded: without `runtime.replace_hung` in `supervisor/app.py` the client waits for ever.
    """
    with supervisor(tmp_path, {"name": "a"}, beat=QUICK) as corral:
        url = corral.wait_until_ready()
        worker, gateway = corral.ask("a")["pid"], int(get(url))
        os.kill(gateway, signal.SIGSTOP)
        successor = int(get(url))
        assert successor != gateway
        eventually(lambda: not exists(gateway), "the end of the one that hung")
        assert corral.ask("a")["pid"] == worker, "workers keep their models"
        reasons = [line["reason"] for line in corral.log() if line.get("worker") == "@gateway"]
        assert any(reason.startswith("hangs: no answer to 3 health checks in a row") for reason in reasons)
        assert successor in children_of(corral.pid)


def test_gateway_whose_socket_was_removed_is_replaced(tmp_path: Path) -> None:
    """A cleaner of directories took the socket that administration and health checks need."""
    with supervisor(tmp_path, {"name": "a"}, beat=QUICK) as corral:
        url = corral.wait_until_ready()
        first = int(get(url))
        (corral.directory / "gateway.sock").unlink()
        eventually(lambda: int(get(url)) != first, "another gateway")
        eventually((corral.directory / "gateway.sock").exists, "its socket")
