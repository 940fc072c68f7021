"""The wall clock is set, by hours or years: nothing that waits, expires or was learned goes by it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.support.aftermath import all_comes_back, gateway_pid
from tests.support.corral import Corral, corral, plain_environment
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES, environment
from tests.support.shifted_clock import ShiftedClock, shifted_clock
from tests.support.supervisor import eventually, exists, get

HOUR_S: Final = 3600
YEAR_S: Final = 365 * 24 * HOUR_S
JUMPS: Final = (YEAR_S, -YEAR_S, -HOUR_S, HOUR_S)
KEEP_ALIVE_S: Final = 600


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> ShiftedClock:
    """The clock of everything below."""
    return shifted_clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module", params=ENGINES)
def running(
    clock: ShiftedClock, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Corral]:
    """A Corral that goes by it: supervisor and gateway, and an embedded worker and its runner.

    A program in Go asks the kernel itself: an Ollama keeps the true time, as one on another host would.
    """
    engine: str = request.param
    directory: Path = tmp_path_factory.mktemp("jumps")
    counting_model(directory / "models")
    plain = environment(directory) if engine == "ollama" else plain_environment()
    with corral(directory, plain | clock.environment, engine=engine, workers=[{"name": "w0"}]) as running:
        yield running


def ask(running: Corral, **options: Any) -> tuple[int, bytes]:
    """Ask for a few words."""
    connection = HTTPConnection(urlsplit(running.url).netloc, timeout=30)
    order = {
        "model": "count",
        "prompt": "1 2",
        "stream": False,
        "keep_alive": KEEP_ALIVE_S,
        "options": options,
    }
    try:
        connection.request("POST", "/api/generate", json.dumps({**order, "options": options}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def expires_in_s(running: Corral) -> float:
    """Return what /api/ps says, against the clock that it goes by: that of the HTTP answer itself."""
    (model,) = json.loads(get(f"{running.url}/api/ps"))["models"]
    return float((datetime.fromisoformat(model["expires_at"]) - datetime.now(UTC)).total_seconds())


def test_a_clock_that_is_set_disturbs_nobody(running: Corral, clock: ShiftedClock) -> None:
    """Models stay loaded, nothing is restarted, requests are neither late nor early."""
    assert ask(running, num_predict=1)[0] == 200
    before, loads = running.worker("w0"), loads_of(running)
    with all_comes_back(running):
        for jump in JUMPS:
            clock.shift(jump)
            assert ask(running, num_predict=3)[0] == 200
            assert 0 < expires_in_s(running) - jump <= KEEP_ALIVE_S, "told in the clock of who reads it"
    clock.shift(0)
    after = running.worker("w0")
    assert (after["incarnation"], after["state"]) == (before["incarnation"], "ready")
    assert loads_of(running) == loads
    assert not [row for row in running.log() if row["event"] == "unload"]


@pytest.mark.slow
def test_a_worker_is_replaced_at_once_whatever_the_clock_says(running: Corral, clock: ShiftedClock) -> None:
    """Backoff and start timeouts are monotonic: a clock an hour back must not make them an hour long."""
    for jump in (-HOUR_S, HOUR_S):
        victim = running.worker("w0")
        os.kill(victim["pid"], signal.SIGKILL)
        clock.shift(jump)
        running.wait_until_replaced("w0", after=victim["incarnation"])
        assert ask(running, num_predict=1)[0] == 200
    clock.shift(0)


def test_what_was_learned_survives_a_clock_that_is_a_year_off(running: Corral, clock: ShiftedClock) -> None:
    """Arrival rates decay with time that has really passed, as far as the machine was not restarted.

    The gateway is killed, so that the file is one that was written before the clock was set.
    """
    assert ask(running, num_predict=1)[0] == 200
    eventually(lambda: list((running.directory / "state").rglob("*learned*")), "the learned file")
    old = gateway_pid(running)
    clock.shift(YEAR_S)
    os.kill(old, signal.SIGKILL)
    eventually(lambda: not exists(old) and gateway_pid(running), "another gateway")
    assert ask(running, num_predict=1)[0] == 200
    known = [row for row in running.log() if row["event"] == "knows what was learned"]
    assert known
    assert known[-1]["seconds_ago"] < HOUR_S
    clock.shift(0)


def loads_of(running: Corral) -> int:
    """Return how many loads there were."""
    return sum(row["event"] == "load" for row in running.log())
