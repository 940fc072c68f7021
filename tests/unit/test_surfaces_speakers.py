from __future__ import annotations

from typing import Any

import pytest

from gateway.fleet.roster import Roster, Target, instance_of
from gateway.http.app import SURFACES, surface_of
from gateway.http.speakers import Speakers
from gateway.scheduling.names import Instance
from gateway.surfaces.surface import BadRequestError
from gateway.workers.engines import speakers, speaks, spoken_by_all, worker_route
from supervisor.contract.fleet import FleetSnapshot
from tests.support.fake_ollama import FakeOllama

ROUTES = sorted(route for surface in SURFACES for route in surface.routes)


def fleet(**engines: str) -> tuple[Roster, Target]:
    """Return a roster of workers with these engines, each of which has the model."""
    workers = [FakeOllama(name, engine=engine) for name, engine in engines.items()]
    roster = Roster()
    roster.snapshot = FleetSnapshot(boot_id="b", generation=1, workers=tuple(w.status() for w in workers))
    for worker in workers:
        roster.learn(worker.name, {"models": [worker.row("count")]})
    roster.introduced |= {instance_of(status) for status in roster.statuses}
    target = roster.resolve("count")
    assert target is not None
    return roster, target


@pytest.mark.parametrize("route", ROUTES)
def test_some_engine_speaks_each_route(route: str) -> None:
    """What the gateway takes in, somebody can answer."""
    assert speakers(worker_route(route))


@pytest.mark.parametrize("route", [route for route in ROUTES if spoken_by_all(route)])
@pytest.mark.parametrize("engine", ["ollama", "embedded", "something new"])
def test_old_routes_are_spoken_by_all(route: str, engine: str) -> None:
    """So that no request for them has to look at the fleet."""
    assert speaks(engine, route)


def test_engine_that_nobody_knows_is_asked() -> None:
    """It says itself what it does not have."""
    assert speaks("something new", "/v1/rerank")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/chat", "ollama"),
        ("/nowhere", "ollama"),
        ("/rerank", "rerank"),
        ("/v1/nowhere", "openai"),
        ("/v1/messages", "anthropic"),
        ("/v1/messages/batches", "anthropic"),
        ("/v1/messagesandmore", "openai"),
        ("/v1/responses", "responses"),
    ],
)
def test_errors_of_a_path_are_its_surfaces(path: str, name: str) -> None:
    """Also where there is no such route."""
    assert surface_of(path).name == name


def test_only_those_who_cannot_are_left_out() -> None:
    """The others may be asked."""
    roster, target = fleet(old="ollama", new="embedded")
    assert Speakers(roster).unable(target, "/v1/rerank") == {Instance("old", 1)}
    assert Speakers(roster).unable(target, "/v1/messages") == frozenset()


@pytest.mark.parametrize(
    ("engines", "words"),
    [
        ({"a": "ollama", "b": "ollama"}, r"a \(ollama\), b \(ollama\); give the model to .* embedded"),
        ({"a": "ollama"}, "/v1/rerank is not spoken by any worker that has count"),
    ],
)
def test_refusal_says_what_to_do(engines: dict[str, str], words: str) -> None:
    """Where the model is, and which engine has the route."""
    roster, target = fleet(**engines)
    with pytest.raises(BadRequestError, match=words) as refused:
        Speakers(roster).unable(target, "/v1/rerank")
    assert refused.value.status == 501


def test_worker_that_said_it_has_no_such_route_is_not_asked_again() -> None:
    """Until it is replaced by another process."""
    roster, target = fleet(a="ollama", b="ollama")
    known = Speakers(roster)
    known.lacks(Instance("a", 1), "/v1/responses")
    assert known.unable(target, "/v1/responses") == {Instance("a", 1)}
    assert known.unable(target, "/v1/messages") == frozenset()
    known.lacks(Instance("b", 1), "/v1/responses")
    with pytest.raises(BadRequestError, match="update them"):
        known.unable(target, "/v1/responses")
    changes: dict[str, Any] = {"incarnation": 2}
    statuses = tuple(status.model_copy(update=changes) for status in roster.statuses)
    roster.snapshot = FleetSnapshot(boot_id="b", generation=2, workers=statuses)
    assert known.unable(target, "/v1/responses") == frozenset()
