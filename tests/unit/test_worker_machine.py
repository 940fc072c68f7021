from __future__ import annotations

from random import Random

import pytest

from supervisor.contract.fleet import WorkerState
from supervisor.core.backoff import RestartPolicy
from supervisor.core.worker import (
    EVENTS,
    IGNORED,
    TABLE,
    Announce,
    Condemned,
    DeadlinePassed,
    DrainCancelled,
    Exited,
    Idle,
    Pardoned,
    Probed,
    Spawn,
    StartRequested,
    StopRequested,
    Terminate,
    Timings,
    WorkerMachine,
)


def machine(policy: RestartPolicy | None = None) -> WorkerMachine:
    """Return a stopped worker."""
    return WorkerMachine(policy or RestartPolicy(jitter=0.0), Timings(), Random(1))


def ready(policy: RestartPolicy | None = None) -> WorkerMachine:
    """Return a worker that was started at 0 and answered its probe."""
    worker = machine(policy)
    worker.handle(StartRequested(), 0.0)
    worker.handle(Probed(ok=True), 0.0)
    return worker


def test_every_state_has_an_answer_to_every_event() -> None:
    """TABLE and IGNORED name each pair exactly once."""
    pairs = {(state, event) for state in WorkerState for event in EVENTS}
    assert set(TABLE) | IGNORED == pairs
    assert not set(TABLE) & IGNORED


def test_every_state_can_be_reached() -> None:
    """No row leads nowhere and no state is only written about."""
    assert {to for row in TABLE.values() for to in row.to} == set(WorkerState)


def test_a_start_spawns_and_says_so() -> None:
    """The effects come in the order in which they must be done."""
    effects = machine().handle(StartRequested(), 0.0)
    assert effects == [Announce(WorkerState.STOPPED, WorkerState.STARTING, "start asked"), Spawn()]


def test_delays_double_and_end_in_quarantine() -> None:
    """Crashes in a row wait longer and longer; the fifth is a crash loop."""
    worker, now, delays = machine(), 0.0, []
    worker.handle(StartRequested(), now)
    for _ in range(5):
        worker.handle(Exited(1), now)
        assert worker.deadline is not None
        delays.append(worker.deadline - now)
        now = worker.deadline
        worker.handle(DeadlinePassed(), now)
    assert delays == [0.5, 1.0, 2.0, 4.0, 600.0]


def test_a_crash_after_quarantine_goes_straight_back() -> None:
    """One try after the long rest, not a whole new series of crashes."""
    worker = machine(RestartPolicy(quarantine_crashes=1))
    worker.handle(StartRequested(), 0.0)
    worker.handle(Exited(1), 0.0)
    worker.handle(DeadlinePassed(), 600.0)
    worker.handle(Exited(1), 601.0)
    assert worker.state is WorkerState.QUARANTINED


def test_a_stable_worker_is_forgiven_without_being_asked() -> None:
    """The deadline of a ready worker that has crashed is the moment of its pardon."""
    worker = ready()
    worker.handle(Exited(1), 1.0)
    worker.handle(DeadlinePassed(), 1.5)
    worker.handle(Probed(ok=True), 2.0)
    pardon = worker.deadline
    assert pardon == 32.0
    worker.handle(DeadlinePassed(), 32.0)
    assert worker.crashes == []
    assert worker.deadline is None


def test_a_worker_that_never_crashed_has_no_deadline_while_ready() -> None:
    """Nothing wakes the supervisor for a worker that does well."""
    assert ready().deadline is None


def test_a_restart_that_was_asked_for_is_no_crash() -> None:
    """Stop and start in one breath: the new process follows at once and nothing is remembered."""
    worker = ready()
    worker.handle(StopRequested(drain=False), 1.0)
    worker.handle(StartRequested(), 1.0)
    assert Spawn() in worker.handle(Exited(0), 2.0)
    assert worker.crashes == []


def test_a_cancelled_drain_leaves_nothing_behind() -> None:
    """The process serves on, and its next exit is its own fault again."""
    worker = ready()
    worker.handle(StopRequested(), 1.0)
    worker.handle(DrainCancelled(), 2.0)
    assert (worker.state, worker.deadline) == (WorkerState.READY, None)
    worker.handle(Exited(1), 3.0)
    assert (worker.state, len(worker.crashes)) == (WorkerState.BACKOFF, 1)


@pytest.mark.parametrize(
    ("code", "reason"), [(0, "drained by hand"), (-15, "drained by hand; killed by signal 15")]
)
def test_who_stopped_it_for_good_stands_in_its_reason(code: int, reason: str) -> None:
    """An exit with status 0 needs no further word: it was asked for."""
    worker = ready()
    worker.handle(StopRequested(remark="drained by hand"), 1.0)
    worker.handle(Idle(), 2.0)
    assert worker.handle(Exited(code), 3.0) == [Announce(WorkerState.STOPPING, WorkerState.STOPPED, reason)]


def test_it_stands_there_too_where_no_process_was_left_to_end() -> None:
    """A worker that crashed may be taken out before it is started again."""
    worker = ready()
    worker.handle(Exited(1), 1.0)
    (announce,) = worker.handle(StopRequested(remark="drained by hand"), 2.0)
    assert announce == Announce(WorkerState.BACKOFF, WorkerState.STOPPED, "drained by hand")


def test_who_stopped_a_process_says_nothing_of_the_next_one() -> None:
    """It was resumed, and stopped for another reason."""
    worker = ready()
    worker.handle(StopRequested(remark="drained by hand"), 1.0)
    worker.handle(DrainCancelled(), 2.0)
    worker.handle(StopRequested(), 3.0)
    worker.handle(Idle(), 4.0)
    (announce,) = worker.handle(Exited(0), 5.0)
    assert announce == Announce(WorkerState.STOPPING, WorkerState.STOPPED, "exited with status 0")


def test_a_hanging_start_is_ended_and_counts_as_a_crash() -> None:
    """The timeout terminates; the exit that follows is the worker's own fault."""
    worker = machine()
    worker.handle(StartRequested(), 0.0)
    assert Terminate() in worker.handle(DeadlinePassed(), 120.0)
    worker.handle(Exited(-15), 121.0)
    assert (worker.state, len(worker.crashes)) == (WorkerState.BACKOFF, 1)


@pytest.mark.parametrize(("code", "words"), [(3, "exited with status 3"), (-9, "killed by signal 9")])
def test_the_reason_says_how_it_ended(code: int, words: str) -> None:
    """People read it in `corral ps`."""
    announce = ready().handle(Exited(code), 1.0)[0]
    assert isinstance(announce, Announce)
    assert announce.reason.startswith(words)


def test_a_policy_may_restart_at_once() -> None:
    """The gateway comes back without a delay after its first crash."""
    policy = RestartPolicy(immediate=1, first_delay_s=0.1, jitter=0.0)
    rng = Random(1)
    assert policy.after(1, on_probation=False, rng=rng).delay_s == 0.0
    assert policy.after(2, on_probation=False, rng=rng).delay_s == 0.1


def test_jitter_stays_within_its_share() -> None:
    """A fifth up or down, no more."""
    delays = [RestartPolicy().after(1, on_probation=False, rng=Random(seed)).delay_s for seed in range(200)]
    assert min(delays) >= 0.4
    assert max(delays) <= 0.6
    assert max(delays) - min(delays) > 0.1


def test_a_worker_on_a_lost_gpu_rests_until_it_is_pardoned() -> None:
    """No time heals a lost card, so no deadline starts it; once the card is back it starts at once."""
    worker = ready()
    assert Terminate() in worker.handle(Condemned("GPU 0 is lost", quarantine=True), 1.0)
    announce = worker.handle(Exited(-9), 2.0)[0]
    assert (worker.state, worker.deadline, worker.crashes) == (WorkerState.QUARANTINED, None, [])
    assert isinstance(announce, Announce)
    assert announce.reason == "GPU 0 is lost"
    assert Spawn() in worker.handle(Pardoned(), 3.0)


def test_a_condemned_worker_that_is_not_quarantined_restarts_with_backoff() -> None:
    """Five times in a row is a crash loop, as with any other cause; the reason is the sentence's."""
    worker = ready()
    worker.handle(Condemned("2 more uncorrected memory errors"), 1.0)
    announce = worker.handle(Exited(-15), 2.0)[0]
    assert isinstance(announce, Announce)
    assert announce.reason.startswith("2 more uncorrected memory errors (crash 1); again in")
    assert worker.state is WorkerState.BACKOFF


def test_a_pardon_does_not_end_a_crash_loops_quarantine() -> None:
    """It was not sent there for its GPU."""
    worker = machine(RestartPolicy(quarantine_crashes=1))
    worker.handle(StartRequested(), 0.0)
    worker.handle(Exited(1), 0.0)
    assert worker.handle(Pardoned(), 1.0) == []
    assert worker.state is WorkerState.QUARANTINED


def test_what_is_known_of_an_end_stands_in_its_reason() -> None:
    """A kill by the kernel for lack of memory is no crash of the program."""
    announce = ready().handle(Exited(-9, "the kernel killed it because memory ran out"), 1.0)[0]
    assert isinstance(announce, Announce)
    assert announce.reason.startswith("killed by signal 9: the kernel killed it because memory ran out")
