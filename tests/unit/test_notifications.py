from __future__ import annotations

from itertools import pairwise

import pytest

from supervisor.contract.fleet import WorkerState
from supervisor.core.notifications import (
    GATEWAY_LOST_S,
    LONGEST_S,
    DeadlinePassed,
    Event,
    FleetChanged,
    GatewayAnswered,
    GatewaySilent,
    Notifications,
    ReloadBegan,
    ReloadEnded,
    Served,
    StopBegan,
)

URL = "http://127.0.0.1:11434"
READY, STARTING, LOST = WorkerState.READY, WorkerState.STARTING, WorkerState.QUARANTINED


def fleet(*states: WorkerState) -> FleetChanged:
    """Workers gpu0, gpu1 … in these states."""
    return FleetChanged(tuple((f"gpu{number}", state) for number, state in enumerate(states)))


class Told:
    """A service at time 0 and all that systemd was told of it."""

    def __init__(self, *, watchdog_s: float | None = None) -> None:
        self.machine = Notifications(0.0, watchdog_s)
        self.now = 0.0
        self.datagrams: list[tuple[float, list[str]]] = []

    def feed(self, *events: Event) -> Told:
        for event in events:
            datagram = self.machine.handle(event, self.now)
            if datagram:
                self.datagrams.append((self.now, datagram.split("\n")))
        return self

    def wait(self, seconds: float, *, answering: bool = False) -> Told:
        """Let time pass as the shell does; the gateway answers every two seconds or not at all."""
        end = self.now + seconds
        beat = self.now + 2 if answering else end
        while (due := min(self.machine.deadline or end, beat, end)) < end:
            self.now = max(self.now, due)
            self.feed(GatewayAnswered(0) if due == beat else DeadlinePassed())
            beat = beat + 2 if due == beat else beat
        self.now = end
        return self

    def times(self, prefix: str) -> list[float]:
        return [at for at, lines in self.datagrams if any(line.startswith(prefix) for line in lines)]

    @property
    def status(self) -> str:
        said = [line for _, lines in self.datagrams for line in lines if line.startswith("STATUS=")]
        return said[-1].removeprefix("STATUS=")


def serving(*, watchdog_s: float | None = None) -> Told:
    """A service with two workers that serves."""
    return Told(watchdog_s=watchdog_s).feed(fleet(READY, READY), Served(URL), GatewayAnswered(4))


def test_ready_is_told_once_the_endpoint_serves() -> None:
    """Together with what it serves: systemd shows the two as one."""
    told = Told().feed(fleet(STARTING, STARTING), fleet(READY, READY))
    assert told.times("READY=1") == []
    told.feed(Served(URL))
    assert told.datagrams[-1][1] == ["READY=1", f"STATUS=Serving {URL}: 2 of 2 workers ready"]


def test_the_status_names_who_is_not_ready_and_counts_loaded_models() -> None:
    """One line, changed when the truth changes."""
    told = serving().feed(fleet(READY, LOST))
    assert told.status == f"Serving {URL}: 1 of 2 workers ready (gpu1 quarantined); 4 models loaded"
    told.feed(GatewayAnswered(1), fleet(READY, READY))
    assert told.status == f"Serving {URL}: 2 of 2 workers ready; 1 model loaded"


def test_what_has_not_changed_is_not_told_again() -> None:
    """A gateway answers every few seconds; systemd writes each status to the journal's index."""
    told = serving()
    before = len(told.datagrams)
    told.feed(*[GatewayAnswered(4)] * 5, fleet(READY, READY))
    assert len(told.datagrams) == before


def test_of_a_large_fleet_only_some_are_named() -> None:
    """The datagram has 4096 bytes."""
    told = Told().feed(fleet(*[STARTING] * 8))
    assert told.status.endswith("gpu4 starting, 3 more)")


def test_a_gateway_that_was_not_there_yet_is_not_called_silent() -> None:
    """It was asked before it could answer; what serves now is no longer replaced."""
    told = Told().feed(fleet(READY), GatewaySilent(), Served(URL))
    assert told.status == f"Serving {URL}: 1 of 1 workers ready"


def test_a_gateway_that_is_gone_is_told() -> None:
    """And that it is back."""
    told = serving().feed(GatewaySilent())
    assert "the gateway does not answer and is replaced, clients wait" in told.status
    assert "gateway" not in told.feed(GatewayAnswered(0)).status


def test_a_reload_is_told_with_its_time_in_one_datagram_and_ends_ready() -> None:
    """It ignores a RELOADING=1 whose MONOTONIC_USEC comes apart from it."""
    told = serving().wait(100.25).feed(ReloadBegan())
    assert told.datagrams[-1][1][:2] == ["RELOADING=1", "MONOTONIC_USEC=100250000"]
    told.feed(ReloadEnded("gpu1 added", "12:00:01"))
    assert told.datagrams[-1][1][0] == "READY=1"
    assert told.status.endswith("; last reload at 12:00:01: gpu1 added")


def test_a_refused_reload_is_told_in_one_line() -> None:
    """A configuration's mistakes are several lines; a status is one, and bounded."""
    told = serving().feed(ReloadBegan(), ReloadEnded("refused:\n  a.yaml:3: no such key\n", "12:00:01"))
    assert told.status.endswith("last reload at 12:00:01: refused: a.yaml:3: no such key")
    told.feed(ReloadBegan(), ReloadEnded("x" * 10_000, "12:00:02"))
    assert told.status.endswith("x... (the log has all of it)")
    assert len(told.status) < 1000


def test_a_reload_before_ready_is_part_of_the_start() -> None:
    """READY=1 would be a lie while nothing serves."""
    told = Told().feed(fleet(STARTING), ReloadBegan(), ReloadEnded("nothing changed", "12:00:01"))
    assert told.times("RELOADING=1") == told.times("READY=1") == []


def test_a_stop_is_told_and_final() -> None:
    """A reload or a start that ends meanwhile does not make it ready again."""
    told = serving().feed(StopBegan())
    assert told.datagrams[-1][1][0] == "STOPPING=1"
    told.feed(ReloadEnded("nothing changed", "12:00:01"), Served(URL), fleet(WorkerState.STOPPED, READY))
    assert told.times("READY=1") == [0.0]
    assert told.status.startswith("Stopping: 1 of 2 workers left")


@pytest.mark.parametrize("watchdog_s", [30.0, 3.0])
def test_the_watchdog_is_fed_three_times_within_its_limit(watchdog_s: float) -> None:
    """One that comes late, or is lost, is no reason to be killed."""
    told = serving(watchdog_s=watchdog_s).wait(10 * watchdog_s, answering=True)
    fed = told.times("WATCHDOG=1")
    gaps = [later - earlier for earlier, later in pairwise(fed)]
    assert len(gaps) >= 28
    assert max(gaps) <= watchdog_s / 3 + 2


def test_the_watchdog_starves_once_the_gateway_has_not_answered_for_long() -> None:
    """Not before: the supervisor replaces a gateway that hangs by itself, without a restart of workers."""
    told = serving(watchdog_s=30).wait(10 * GATEWAY_LOST_S)
    assert GATEWAY_LOST_S - 10 <= told.times("WATCHDOG=1")[-1] <= GATEWAY_LOST_S


def test_nobody_is_fed_where_there_is_no_watchdog() -> None:
    """And nothing is due while it serves."""
    told = serving()
    assert told.machine.deadline is None
    assert told.wait(1000).times("WATCHDOG=1") == []


def test_a_slow_start_asks_for_more_time_until_it_serves() -> None:
    """Each asks for longer than until the next."""
    told = Told().feed(fleet(STARTING, READY)).wait(100)
    asked = told.times("EXTEND_TIMEOUT_USEC=30000000")
    assert asked == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    told.feed(Served(URL)).wait(100)
    assert told.times("EXTEND_TIMEOUT_USEC")[-1] <= 100


def test_a_start_that_leads_nowhere_asks_for_no_more_time() -> None:
    """Every worker was given up: systemd's own limit ends it."""
    told = Told().feed(fleet(STARTING, LOST)).wait(20).feed(fleet(LOST, LOST)).wait(100)
    assert told.times("EXTEND_TIMEOUT_USEC")[-1] <= 20


def test_nothing_gets_more_time_for_ever() -> None:
    """A stop, too, ends by systemd's limit if not by itself."""
    told = serving().feed(StopBegan()).wait(3 * LONGEST_S)
    asked = told.times("EXTEND_TIMEOUT_USEC")
    assert LONGEST_S - 20 <= asked[-1] <= LONGEST_S


def test_the_watchdog_is_fed_while_it_starts_reloads_and_stops() -> None:
    """The supervisor's loop turns, and that there is no gateway then is no fault."""
    told = serving(watchdog_s=30).feed(StopBegan()).wait(2 * GATEWAY_LOST_S)
    assert told.times("WATCHDOG=1")[-1] >= 2 * GATEWAY_LOST_S - 10
