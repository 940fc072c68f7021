from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.simulate.request_log import read_log
from gateway.simulate.workload import Row, Tokens


def a_line(**changes: Any) -> str:
    """Return the line of a request that was answered, with changes; None takes a key away."""
    entry = {
        "event": "request",
        "started_unix": 1000.5,
        "model": "tiny:latest",
        "tenant": "ann",
        "session": "s1",
        "route": "/api/chat",
        "prompt_tokens": 20,
        "tokens": 7,
        "status": 200,
        "outcome": "done",
        "first_byte_s": 0.25,
    }
    return json.dumps({key: value for key, value in (entry | changes).items() if value is not None})


def test_an_answered_request_becomes_a_row() -> None:
    """With whose it was, and what was measured."""
    reading = read_log([a_line()])
    assert reading.rows == [Row(1000.5, "tiny:latest", "ann", Tokens(20, 7), "s1")]
    assert reading.ttft_s == [0.25]
    assert not reading.skipped


def test_a_prefix_before_the_json_does_no_harm() -> None:
    """As journals and supervisors put it there."""
    assert len(read_log(["Nov 21 box corral[7]: " + a_line(), ""]).rows) == 1


def test_an_answer_that_came_whole_tells_no_time_to_its_first_token() -> None:
    """It is replayed all the same; vectors come whole as they are."""
    reading = read_log([a_line(stream=False), a_line(stream=False, route="/api/embed", tokens=None)])
    assert (len(reading.rows), reading.ttft_s) == (2, [0.25])


def test_embeddings_write_nothing_and_count() -> None:
    """Their line has no tokens."""
    reading = read_log([a_line(route="/api/embed", tokens=None)])
    assert reading.rows[0].tokens == Tokens(20, 1)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("listening on 127.0.0.1", "no JSON"),
        ("{half", "no JSON"),
        ('{"event": "worker is ready"}', "another event"),
        (a_line(outcome="refused", status=503), "not answered (refused, status 503)"),
        (a_line(status=400), "not answered (done, status 400)"),
        (a_line(started_unix=None), "does not say when it came (started_unix)"),
        (a_line(model=""), "does not say which model"),
        (a_line(prompt_tokens=None), "does not say how long its prompt was (prompt_tokens)"),
        (a_line(tokens=None), "does not say how long its answer was (tokens)"),
        (a_line(tokens=True), "does not say how long its answer was (tokens)"),
    ],
)
def test_what_is_left_aside_is_counted_under_its_reason(line: str, reason: str) -> None:
    """So that nobody takes a part of the load for all of it."""
    reading = read_log([line, a_line(), line])
    assert (len(reading.rows), reading.skipped) == (1, {reason: 2})
