"""When a request came, as its wait and its time limit count."""

from __future__ import annotations

import json

from gateway.http.arrival import Arrival, told_of


def test_a_request_waits_from_when_it_is_whole() -> None:
    """What its client took to send is no wait, and is not taken off its time."""
    assert Arrival(5.0, "10.0.0.7").whole(17.0) == Arrival(17.0, "10.0.0.7")


def test_a_request_that_an_older_gateway_passes_on_has_waited_there() -> None:
    """It was whole already: its body comes from that gateway at once."""
    passed_on = Arrival(5.0, "10.0.0.7", admitted=True)
    assert passed_on.whole(17.0) == passed_on


def test_one_that_is_not_whole_yet_becomes_so_at_the_next_gateway() -> None:
    """Nobody has let it wait so far."""
    assert json.loads(told_of(Arrival(5.0, "10.0.0.7"), 6.0, is_whole=False)) == [1.0, "10.0.0.7", False]
    assert json.loads(told_of(Arrival(5.0, "10.0.0.7"), 6.0, is_whole=True)) == [1.0, "10.0.0.7", True]


def test_a_wait_is_not_forgotten_when_it_is_passed_on_again_at_once() -> None:
    """The second gateway may be relieved before it has read the body."""
    passed_on = Arrival(5.0, "10.0.0.7", admitted=True)
    assert json.loads(told_of(passed_on, 6.0, is_whole=False)) == [1.0, "10.0.0.7", True]
