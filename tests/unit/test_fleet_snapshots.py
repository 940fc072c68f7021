from __future__ import annotations

from supervisor.contract.fleet import WorkerState
from supervisor.core.fleet import Note, first_snapshot, moved, noted, spawned, with_status
from supervisor.core.worker import Announce
from tests.support.fake_engine import fake_spec

FLEET = first_snapshot("boot", [fake_spec("a"), fake_spec("b")], since_unix=1.0)
STARTED = moved(FLEET.workers[0], Announce(WorkerState.STOPPED, WorkerState.STARTING, "why"), since_unix=2.0)


def test_before_anything_was_started_every_worker_is_there_and_stopped() -> None:
    """The gateway knows the whole fleet from the first line."""
    assert [(status.worker, status.state, status.incarnation) for status in FLEET.workers] == [
        ("a", WorkerState.STOPPED, 0),
        ("b", WorkerState.STOPPED, 0),
    ]


def test_a_spawn_makes_the_next_incarnation_with_an_address() -> None:
    """Leases are keyed by the incarnation."""
    status = spawned(spawned(STARTED, pid=1, port=10), pid=2, port=20)
    assert (status.incarnation, status.pid, status.base_url) == (2, 2, "http://127.0.0.1:20")


def test_a_ready_worker_keeps_its_address() -> None:
    """The move says only what has changed."""
    announce = Announce(WorkerState.STARTING, WorkerState.READY, "probe answered")
    status = moved(spawned(STARTED, pid=1, port=10), announce, since_unix=3.0)
    assert (status.base_url, status.reason, status.since_unix) == (
        "http://127.0.0.1:10",
        "probe answered",
        3.0,
    )


def test_where_no_process_is_there_is_no_address() -> None:
    """Nobody shall send a request to a port that is another's by now."""
    announce = Announce(WorkerState.READY, WorkerState.BACKOFF, "crash")
    status = moved(spawned(STARTED, pid=1, port=10), announce, since_unix=3.0)
    assert (status.pid, status.base_url, status.incarnation) == (None, "", 1)


def test_each_change_is_a_new_generation_and_leaves_the_others_alone() -> None:
    """Snapshots are whole and ordered."""
    fleet = with_status(FLEET, STARTED)
    assert fleet.generation == FLEET.generation + 1
    assert fleet.workers == (STARTED, FLEET.workers[1])


def test_what_watchers_tell_stands_together_and_memory_comes_back() -> None:
    """Each tells its own part; what is withheld is given back when nobody withholds it any more."""
    given = STARTED.memory_bytes
    told = noted(STARTED, [Note("GPU 0 throttles"), Note("pid 7 took 1 GiB", withheld_bytes=100), Note()])
    assert (told.condition, told.memory_bytes) == ("GPU 0 throttles; pid 7 took 1 GiB", given - 100)
    assert noted(told, [Note(withheld_bytes=given * 2)]).memory_bytes == 0
    assert noted(told, [Note()]) == STARTED
