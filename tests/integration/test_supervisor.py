"""A real supervisor with real processes: what it starts, restarts and stops."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from supervisor.contract.fleet import WorkerState
from tests.support.supervisor import RunningSupervisor, children_of, eventually, exists, get, supervisor


def logged(corral: RunningSupervisor, event: str) -> bool:
    """Return whether the log tells of it."""
    return any(line["event"] == event for line in corral.log())


QUICK = {"first_delay_s": 0.05, "jitter": 0.0}


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """The successor has another pid and the next incarnation, and it answers."""
    with supervisor(tmp_path, {"name": "a"}, policy=QUICK) as corral:
        first = corral.wait_for("a", state=WorkerState.READY)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        second = corral.wait_for("a", state=WorkerState.READY, incarnation=2)
        assert second.pid != first.pid
        assert corral.ask("a")["pid"] == second.pid


def test_what_a_worker_started_dies_with_it(tmp_path: Path) -> None:
    """Its child, and its child in another session, are gone before the successor comes."""
    with supervisor(tmp_path, {"name": "a", "behaviour": "child daemon"}, policy=QUICK) as corral:
        about = corral.ask("a")
        os.kill(about["pid"], signal.SIGKILL)
        corral.wait_for("a", state=WorkerState.READY, incarnation=2)
        assert len(about["children"]) == 2
        eventually(lambda: not any(map(exists, about["children"])), "the children end", within_s=2)
        alive = {corral.ask("a")["pid"], corral.keeper()}
        eventually(lambda: len(children_of(corral.pid)) == len(alive) + 1, "no zombie is left", within_s=2)


def test_a_crash_loop_ends_in_quarantine(tmp_path: Path) -> None:
    """After as many crashes as the policy says, with the reason for people."""
    policy = QUICK | {"quarantine_crashes": 3}
    with supervisor(tmp_path, {"name": "a", "behaviour": "exit"}, policy=policy) as corral:
        status = corral.wait_for("a", state=WorkerState.QUARANTINED)
        assert status.incarnation == 3
        assert status.reason.startswith("exited with status 3 (crash 3)")
        assert (status.pid, status.base_url) == (None, "")


def test_a_worker_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    """The start has a time limit; what hangs is ended and tried again."""
    timings = {"start_timeout_s": 0.3}
    worker = {"name": "a", "behaviour": "unready"}
    with supervisor(tmp_path, worker, policy=QUICK, timings=timings) as corral:
        status = corral.wait_for("a", state=WorkerState.BACKOFF)
        assert "killed by signal 15" in status.reason


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 0, and no process of ours is left: no worker, no gateway, no keeper."""
    with supervisor(tmp_path, {"name": "a", "behaviour": "daemon"}, {"name": "b"}) as corral:
        corral.wait_until_ready()
        about = corral.ask("a")
        everybody = [*children_of(corral.pid), *about["children"]]
        assert len(everybody) == 5
        assert corral.stop(number) == 0
        assert not any(map(exists, everybody))
        assert not (corral.directory / "endpoint").exists()
        assert not (corral.directory / "supervisor.sock").exists()


def test_a_worker_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """Its time to stop is limited too."""
    timings = {"stop_timeout_s": 0.2}
    with supervisor(tmp_path, {"name": "a", "behaviour": "deaf"}, timings=timings) as corral:
        corral.wait_until_ready()
        assert corral.stop() == 0


def test_a_second_signal_waits_for_nobody(tmp_path: Path) -> None:
    """Whoever asks twice does not want to wait for the deaf."""
    timings = {"stop_timeout_s": 600}
    with supervisor(tmp_path, {"name": "a", "behaviour": "deaf"}, timings=timings) as corral:
        corral.wait_until_ready()
        corral.process.send_signal(signal.SIGTERM)
        corral.wait_for("a", state=WorkerState.STOPPING)
        assert corral.stop() == 1


def test_the_endpoint_is_written_where_scripts_find_it(tmp_path: Path) -> None:
    """The file holds the URL that was announced, and the gateway answers there."""
    with supervisor(tmp_path, {"name": "a"}) as corral:
        url = corral.wait_until_ready()
        assert (corral.directory / "endpoint").read_text() == f"{url}\n"
        assert int(get(url)) in children_of(corral.pid)


def test_who_has_no_room_for_the_endpoint_serves_all_the_same(tmp_path: Path) -> None:
    """A full disk is told in the log; before, it ended Corral when everything was ready."""
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    (directory / ".endpoint").symlink_to("/dev/full")
    with supervisor(tmp_path, {"name": "a"}) as corral:
        assert get(corral.wait_until_ready())
        assert any("No space left" in line.get("error", "") for line in corral.log())
        assert corral.stop() == 0
        assert not list(directory.glob("*endpoint"))


def test_a_third_signal_kills_the_gateway_that_says_its_last_words(tmp_path: Path) -> None:
    """The second one leaves it a moment for that. This one is stopped and hears nothing."""
    timings = {"stop_timeout_s": 600}
    with supervisor(tmp_path, {"name": "a"}, timings=timings) as corral:
        gateway = int(get(corral.wait_until_ready()))
        os.kill(gateway, signal.SIGSTOP)
        for told in ("stopping", "ending everything now"):
            corral.process.send_signal(signal.SIGTERM)
            eventually(partial(logged, corral, told), f"the word {told!r}")
        assert corral.stop() == 1
        assert logged(corral, "killing everything")
        assert not exists(gateway)


def test_no_connection_is_refused_while_the_gateway_is_replaced(tmp_path: Path) -> None:
    """Requests sent in the gap wait in the listen backlog and are answered by the successor."""
    with supervisor(tmp_path, {"name": "a"}) as corral:
        url = corral.wait_until_ready()
        for _ in range(3):
            first = int(get(url))
            os.kill(first, signal.SIGKILL)
            eventually(partial(_gone, first), "the gateway's end")
            with ThreadPoolExecutor(10) as clients:
                answers = [int(body) for body in clients.map(get, [url] * 10)]
            assert first not in answers


def _gone(pid: int) -> bool:
    return not exists(pid)


def test_each_worker_sees_its_own_gpu_and_nothing_of_our_shell(tmp_path: Path) -> None:
    """Pinned by UUID; a CPU worker sees no GPU; the shell's pinning and OLLAMA_ variables stay behind."""
    workers = [{"name": f"gpu{n}", "gpus": [f"GPU-{n}"]} for n in range(4)]
    with supervisor(tmp_path, *workers, {"name": "cpu0", "env": {"OLLAMA_MINE": "1"}}) as corral:
        corral.wait_until_ready()
        visible = {}
        for name in ("gpu0", "gpu1", "gpu2", "gpu3", "cpu0"):
            env = corral.ask(name)["env"]
            visible[name] = env["CUDA_VISIBLE_DEVICES"]
            ollama = {key for key in env if key.startswith("OLLAMA_")}
            mine = {"OLLAMA_MINE"} if name == "cpu0" else set()
            assert ollama == {"OLLAMA_NUM_PARALLEL"} | mine
        assert visible == {"gpu0": "GPU-0", "gpu1": "GPU-1", "gpu2": "GPU-2", "gpu3": "GPU-3", "cpu0": "-1"}


def test_a_cpu_worker_is_bound_to_its_cores(tmp_path: Path) -> None:
    """The affinity is set before the worker's program begins."""
    core = min(os.sched_getaffinity(0))
    with supervisor(tmp_path, {"name": "a", "cores": [core]}) as corral:
        assert corral.ask("a")["cores"] == [core]


def test_output_of_a_worker_is_in_the_log(tmp_path: Path) -> None:
    """Line by line under the worker's name; its own JSON keeps its level and fields; nothing is lost."""
    policy = QUICK | {"quarantine_crashes": 1}
    with supervisor(tmp_path, {"name": "a", "behaviour": "print exit"}, policy=policy) as corral:
        corral.wait_for("a", state=WorkerState.QUARANTINED)
        log = [line for line in corral.log() if line.get("worker") == "a" and "was" not in line]
    events = {line["event"]: line for line in log}
    assert events["plain words"]["level"] == "info"
    assert (events["model loaded"]["level"], events["model loaded"]["model"]) == ("warning", "m")
    assert events["time=x level=ERROR msg=oh"]["level"] == "error"
    assert sum(len(event) for event in events if event.startswith("xx")) >= 16_000
    assert sum(line["event"].count("x") for line in log if line["event"].startswith("xx")) == 40_000
    assert log[-1]["event"] == "no newline at the end"


def test_a_log_that_cannot_be_written_does_not_keep_workers_down(tmp_path: Path) -> None:
    """The disk may be full; work goes on."""
    (tmp_path / "log").symlink_to("/dev/full")
    with supervisor(tmp_path, {"name": "a", "behaviour": "print"}, policy=QUICK) as corral:
        first = corral.wait_for("a", state=WorkerState.READY)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        corral.wait_for("a", state=WorkerState.READY, incarnation=2)
        assert corral.stop() == 0


def test_a_second_supervisor_is_told_who_was_first(tmp_path: Path) -> None:
    """One runtime directory, one supervisor."""
    with supervisor(tmp_path, {"name": "a"}) as corral:
        corral.wait_until_ready()
        second = tmp_path / "second"
        second.mkdir()
        (second / "run").symlink_to(corral.directory)
        with supervisor(second) as late:
            assert late.process.wait(20) != 0
            assert f"in use by another supervisor (process {corral.pid})" in late.log_file.read_text()
