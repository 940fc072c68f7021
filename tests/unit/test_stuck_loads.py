"""When an Ollama is known to wait for a runner that died while it started."""

from __future__ import annotations

import pytest

from gateway.fleet.moves import stuck_since
from gateway.scheduling.names import Instance
from supervisor.contract.fleet import FleetSnapshot
from supervisor.core.stuck_loads import AGAIN, CERTAIN, StuckLoads
from supervisor.engines.symptoms import Symptom, symptom_of
from tests.support.fake_ollama import FakeOllama

EACH_S = 0.01


def hear(stuck: StuckLoads, lines: int, start: float = 0.0) -> int:
    """Have it hear so many lines as an Ollama writes them; return how often it took note."""
    return sum(stuck.heard(start + line * EACH_S) for line in range(lines))


def test_a_line_in_a_row_of_many_is_a_load_that_is_stuck() -> None:
    """Once, so that the load after it is left alone."""
    assert hear(StuckLoads(), CERTAIN - 1) == 0
    assert hear(StuckLoads(), CERTAIN) == 1
    assert hear(StuckLoads(), AGAIN) == 1


def test_who_still_waits_is_told_of_again() -> None:
    """The first word may have reached nobody, while a gateway was replaced."""
    assert hear(StuckLoads(), AGAIN + CERTAIN) == 2


def test_lines_now_and_then_are_requests_for_a_runner_that_died() -> None:
    """They are answered, with an error, and nothing waits."""
    stuck = StuckLoads()
    assert not any(stuck.heard(now) for now in range(10 * CERTAIN))
    assert stuck.count == 0


def test_each_stuck_load_counts() -> None:
    """Also when another one follows after a while."""
    stuck = StuckLoads()
    hear(stuck, CERTAIN)
    hear(stuck, CERTAIN, start=60.0)
    assert stuck.count == 2


def test_a_runner_that_exits_before_it_answered_is_a_load_that_is_stuck() -> None:
    """Of an exit there is one line and no more."""
    stuck = StuckLoads()
    stuck.starts()
    assert (stuck.exited(), stuck.count) == (True, 1)
    assert not stuck.exited()


def test_a_runner_that_exits_later_is_waited_for_by_nobody() -> None:
    """Whoever it served is told; a load that was given up, or was known to be stuck, is over as well."""
    stuck = StuckLoads()
    assert not stuck.exited()
    stuck.starts()
    stuck.answers()
    assert not stuck.exited()
    stuck.starts()
    hear(stuck, CERTAIN)
    assert not stuck.exited()
    assert stuck.count == 1


@pytest.mark.parametrize(
    ("line", "symptom"),
    [
        (
            'time=x level=WARN source=server.go:1305 msg="llama runner process no longer running" sys=9',
            Symptom.DEAD_RUNNER_ASKED,
        ),
        (
            'time=x level=INFO msg="starting runner" cmd="/bin/ollama runner --model /b --port 1"',
            Symptom.RUNNER_STARTS,
        ),
        (
            'time=x level=INFO msg="starting runner" cmd="/bin/ollama runner --ollama-engine --port 1"',
            None,
        ),
        ("2026/11/21 23:58:17 Server listening on 127.0.0.1:34969", Symptom.RUNNER_ANSWERS),
        (
            'time=x level=INFO source=sched.go:511 msg="Load failed" model=/b error="context canceled"',
            Symptom.RUNNER_ANSWERS,
        ),
        (
            'time=x level=ERROR source=server.go:316 msg="llama runner terminated" error="exit status 2"',
            Symptom.RUNNER_EXITED,
        ),
    ],
)
def test_the_lines_of_an_ollama_are_known(line: str, symptom: Symptom | None) -> None:
    """As 0.24 writes them; the runner without a model is the one that looks for GPUs."""
    assert symptom_of(line) is symptom


def snapshot(*, incarnation: int, stuck_loads: int) -> FleetSnapshot:
    """Return a fleet of one worker."""
    status = FakeOllama("w0").status(incarnation=incarnation, stuck_loads=stuck_loads)
    return FleetSnapshot(boot_id="test", generation=1, workers=(status,))


def test_only_what_grew_since_the_last_snapshot_is_news() -> None:
    """A gateway that comes up, and a successor of the process, have no load that was stuck."""
    before = snapshot(incarnation=1, stuck_loads=1)
    assert stuck_since(before, snapshot(incarnation=1, stuck_loads=2)) == [Instance("w0", 1)]
    assert stuck_since(before, before) == []
    assert stuck_since(None, before) == []
    assert stuck_since(before, snapshot(incarnation=2, stuck_loads=2)) == []
