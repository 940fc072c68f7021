from __future__ import annotations

from itertools import product
from typing import Final, get_args

import pytest

from gateway.external.health import (
    IGNORED,
    TABLE,
    USUAL,
    Announce,
    Answered,
    DeadlinePassed,
    Effect,
    Event,
    Failed,
    Health,
    Look,
    Looked,
    Probe,
    RequestFailed,
    step,
)
from supervisor.contract.fleet import WorkerState

STATES: Final = (WorkerState.STARTING, WorkerState.READY, WorkerState.BACKOFF)
REFUSED: Final = Failed("connection refused", silent=False)
SILENT: Final = Failed("gave no answer", silent=True)


def after(*events: tuple[float, Event]) -> tuple[Health, list[Effect]]:
    """Return the health after these events at these seconds, and the effects of the last one."""
    health = Health()
    effects: tuple[Effect, ...] = ()
    for now, event in events:
        health, effects = step(health, event, now, USUAL)
    return health, list(effects)


READY: Final[list[tuple[float, Event]]] = [(0.0, DeadlinePassed()), (0.0, Answered("1"))]


def test_every_event_in_every_state_is_decided() -> None:
    """What changes nothing is listed as such."""
    pairs = set(product(STATES, get_args(Event)))
    assert TABLE.keys() | IGNORED == pairs
    assert not TABLE.keys() & IGNORED


def test_it_is_asked_at_once() -> None:
    """And is nothing before it answered."""
    health, effects = after((0.0, DeadlinePassed()))
    assert effects == [Probe()]
    assert (health.state, health.incarnation, health.due) == (WorkerState.STARTING, 0, None)


def test_an_answer_makes_it_ready() -> None:
    """It is asked again after the interval."""
    health, effects = after(*READY)
    assert effects == [Announce()]
    assert (health.state, health.incarnation, health.due) == (WorkerState.READY, 1, 10.0)


def test_a_deadline_that_is_not_due_does_nothing() -> None:
    """A timer of before cannot double the questions."""
    assert after(*READY, (9.0, DeadlinePassed()))[1] == []
    assert after(*READY, (10.0, DeadlinePassed()), (10.0, DeadlinePassed()))[1] == []


@pytest.mark.parametrize("silences", [1, 2])
def test_one_silence_proves_nothing_and_two_do(silences: int) -> None:
    """It may be computing on all its cores; meanwhile it is asked again without a pause."""
    health, effects = after(*READY, (10.0, DeadlinePassed()), *[(15.0, SILENT)] * silences)
    assert health.state is (WorkerState.READY if silences == 1 else WorkerState.BACKOFF)
    assert effects == [Probe() if silences == 1 else Announce()]


def test_silences_count_only_in_a_row() -> None:
    """An answer in between wipes them out."""
    health, _ = after(*READY, (10.0, DeadlinePassed()), (15.0, SILENT), (16.0, Answered("1")), (30.0, SILENT))
    assert health.state is WorkerState.READY


def test_a_refused_connection_is_proof() -> None:
    """The reason is told."""
    health, effects = after(*READY, (10.0, DeadlinePassed()), (10.0, REFUSED))
    assert (health.state, health.reason, effects) == (WorkerState.BACKOFF, REFUSED.why, [Announce()])


def test_one_that_stays_away_is_asked_ever_more_seldom() -> None:
    """0.5 s, doubling, and never more than 10 s apart."""
    health, _ = after((0.0, DeadlinePassed()), (0.0, REFUSED))
    waits = [health.due]
    for _ in range(6):
        health, _ = step(health, DeadlinePassed(), 1e6, USUAL)
        health, effects = step(health, REFUSED, 0.0, USUAL)
        assert effects == ()
        waits.append(health.due)
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_another_reason_for_being_away_is_told() -> None:
    """`corral ps` shows the last one."""
    health, effects = after((0.0, DeadlinePassed()), (0.0, REFUSED), (0.5, DeadlinePassed()), (0.5, SILENT))
    assert (health.reason, effects) == (SILENT.why, [Announce()])


def test_it_comes_back_as_another_incarnation() -> None:
    """Nothing that the vanished one had is believed."""
    health, effects = after(*READY, (1.0, RequestFailed()), (1.0, REFUSED), (2.0, Answered("1")))
    assert (health.state, health.incarnation, effects) == (WorkerState.READY, 2, [Announce()])


def test_another_version_is_another_process() -> None:
    """It was replaced between two probes."""
    health, effects = after(*READY, (10.0, DeadlinePassed()), (10.0, Answered("2")))
    assert (health.incarnation, health.version, effects) == (2, "2", [Announce()])


def test_a_failed_request_asks_at_once_and_then_looks() -> None:
    """Whether it is there, and if so what it holds."""
    assert after(*READY, (1.0, RequestFailed()))[1] == [Probe()]
    assert after(*READY, (1.0, RequestFailed()), (1.0, Answered("1")))[1] == [Look()]


def test_many_failed_requests_ask_once() -> None:
    """While a question is under way no other goes out."""
    assert after(*READY, (1.0, RequestFailed()), (1.0, RequestFailed()))[1] == []


def test_what_it_holds_is_looked_at_seldom() -> None:
    """With every third probe, and again with the next one until the look succeeded."""
    probes: list[tuple[float, Event]] = []
    for now in (10.0, 20.0, 30.0, 40.0):
        probes += [(now, DeadlinePassed()), (now, Answered("1"))]
    assert after(*READY, *probes[:4])[1] == []
    assert after(*READY, *probes[:6])[1] == [Look()]
    assert after(*READY, *probes[:8])[1] == [Look()]
    assert after(*READY, *probes[:6], (30.0, Looked()), *probes[6:])[1] == []
