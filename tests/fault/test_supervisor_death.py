"""What is left soon after the supervisor, or its keeper, was killed: nothing."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

from supervisor.contract.fleet import WorkerState
from tests.support.supervisor import RunningSupervisor, children_of, eventually, exists, supervisor

SOON_S = 10.0  # it is a tenth of a second where nothing else computes


def test_nothing_survives_kill_9_of_the_supervisor(tmp_path: Path) -> None:
    """No worker, deaf or not, no child of one in whatever session, no gateway and no keeper."""
    workers = [{"name": "a", "behaviour": "deaf child daemon"}, {"name": "b", "behaviour": "child"}]
    with supervisor(tmp_path, *workers) as corral:
        corral.wait_until_ready()
        everybody = children_of(corral.pid)
        everybody += [pid for name in ("a", "b") for pid in corral.ask(name)["children"]]
        assert len(everybody) == 4 + 3
        corral.process.kill()
        eventually(lambda: not any(map(exists, everybody)), "everybody's end", within_s=SOON_S)


def test_nothing_survives_kill_9_while_workers_start(tmp_path: Path) -> None:
    """The tie is made before the worker's program runs."""
    with supervisor(tmp_path, *({"name": f"w{n}", "behaviour": "unready"} for n in range(4))) as corral:
        corral.wait_for("w3", state=WorkerState.STARTING)
        everybody = children_of(corral.pid)
        corral.process.kill()
        eventually(lambda: not any(map(exists, everybody)), "everybody's end", within_s=SOON_S)


def test_a_killed_keeper_is_replaced_and_knows_everything(tmp_path: Path) -> None:
    """The second keeper cleans up after the supervisor as the first would have."""
    with supervisor(tmp_path, {"name": "a", "behaviour": "deaf child daemon"}) as corral:
        corral.wait_until_ready()
        first = corral.keeper()
        os.kill(first, signal.SIGKILL)
        eventually(lambda: corral.keeper() not in (0, first), "another keeper")
        everybody = [*children_of(corral.pid), *corral.ask("a")["children"]]
        corral.process.kill()
        eventually(lambda: not any(map(exists, everybody)), "everybody's end", within_s=SOON_S)


def _keepers_died(corral: RunningSupervisor, deaths: int) -> bool:
    return corral.log_file.read_text().count("keeper ended") == deaths


def test_workers_come_and_go_while_the_keeper_keeps_dying(tmp_path: Path) -> None:
    """Even in the pause that a keeper gets which dies again and again; its successor knows the new ones."""
    policy = {"first_delay_s": 0.01}
    with supervisor(tmp_path, {"name": "a", "behaviour": "deaf daemon"}, policy=policy) as corral:
        corral.wait_until_ready()
        for deaths in range(1, 5):
            os.kill(eventually(corral.keeper, "a keeper"), signal.SIGKILL)
            eventually(partial(_keepers_died, corral, deaths), "its end")
        os.kill(corral.ask("a")["pid"], signal.SIGKILL)
        corral.wait_for("a", state=WorkerState.READY, incarnation=2)
        eventually(corral.keeper, "a keeper")
        everybody = [*children_of(corral.pid), *corral.ask("a")["children"]]
        corral.process.kill()
        eventually(lambda: not any(map(exists, everybody)), "everybody's end", within_s=SOON_S)


def test_a_keeper_is_not_ended_by_the_signals_that_end_a_supervisor(tmp_path: Path) -> None:
    """A SIGTERM or SIGINT to everybody must not take away who cleans up."""
    with supervisor(tmp_path, {"name": "a"}) as corral:
        corral.wait_until_ready()
        keeper = corral.keeper()
        os.kill(keeper, signal.SIGTERM)
        os.kill(keeper, signal.SIGINT)
        corral.process.kill()
        eventually(lambda: not exists(keeper), "the keeper's end by the pipe", within_s=SOON_S)
        log = corral.log_file.read_text()
        assert "keeper ended" not in log
