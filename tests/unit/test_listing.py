from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.commands.models import _cells
from gateway.fleet.offers import disputed, offered, offers
from gateway.fleet.roster import Roster
from gateway.surfaces import model_lists
from gateway.surfaces.model_lists import Listed
from gateway.surfaces.show import for_client, read_show
from gateway.surfaces.surface import BadRequestError
from supervisor.contract.config import ModelConfig
from supervisor.contract.fleet import FleetSnapshot
from tests.support.fake_ollama import FakeOllama


def row(name: str, modified_at: str = "2025-01-02T03:04:05.123456789Z", digest: str = "d" * 64) -> Any:
    """Return a model as a worker lists it."""
    return {"name": name, "model": name, "digest": digest, "size": 1, "modified_at": modified_at}


def roster_of(stores: dict[str, list[Any]], **wishes: ModelConfig) -> Roster:
    """Return what is known of workers with these rows in their stores."""
    roster = Roster(wishes)
    statuses = tuple(FakeOllama(worker).status() for worker in stores)
    roster.snapshot = FleetSnapshot(boot_id="test", generation=1, workers=statuses)
    for worker, rows in stores.items():
        roster.learn(worker, {"models": rows})
    return roster


def names(roster: Roster) -> list[str]:
    """Return what /api/tags lists, in its order."""
    return [one["name"] for one in model_lists.tags(list(offers(roster).values()))["models"]]


def test_a_model_of_several_workers_is_listed_once() -> None:
    """With the workers that have it."""
    roster = roster_of({"a": [row("m:latest")], "b": [row("m:latest"), row("n:1")]})
    listed = model_lists.tags(list(offers(roster).values()))["models"]
    assert [(one["name"], one["workers"]) for one in listed] == [("m:latest", ["a", "b"]), ("n:1", ["b"])]


def test_names_over_one_digest_are_both_listed() -> None:
    """As Ollama lists a copy."""
    assert names(roster_of({"a": [row("m:latest"), row("copy:latest")]})) == ["copy:latest", "m:latest"]


def test_a_name_with_two_meanings_is_the_one_that_requests_get() -> None:
    """A worker whose store has something else under it is not named."""
    roster = roster_of({"a": [row("m:latest", digest="1" * 64)], "b": [row("m:latest", digest="2" * 64)]})
    model = offered(roster, "m")
    target = roster.resolve("m")
    assert model is not None
    assert target is not None
    assert (model.digest, model.workers) == (target.variant.digest, ("a",))


def test_a_name_with_two_meanings_is_found() -> None:
    """So that the log can tell whose store differs; what an alias hides is nobody's mistake."""
    first, second = row("m:latest", digest="1" * 64), row("m:latest", digest="2" * 64)
    assert disputed(roster_of({"a": [first], "b": [second], "c": [first]})) == {("m:latest", "b")}
    aliased = ModelConfig(aliases=("m",))
    assert not disputed(roster_of({"a": [first, row("n:latest")], "b": [second]}, n=aliased))


def test_the_youngest_model_comes_first() -> None:
    """Clients that take the first one for their default get the same as from Ollama."""
    old, new = "2024-12-31T23:00:00.5-05:00", "2025-01-01T05:00:00Z"
    assert names(roster_of({"a": [row("a:1", old), row("b:1", new)]})) == ["b:1", "a:1"]


def test_an_alias_is_listed_like_a_copy() -> None:
    """Clients offer what is listed and nothing else; under /v1 it has the operator's own words."""
    roster = roster_of({"a": [row("m:latest")]}, m=ModelConfig(aliases=("gpt-4o-mini",)))
    models = list(offers(roster).values())
    listed = {one["name"]: one for one in model_lists.tags(models)["models"]}
    assert listed.keys() == {"m:latest", "gpt-4o-mini:latest"}
    assert listed["gpt-4o-mini:latest"]["alias_of"] == "m:latest"
    assert listed["gpt-4o-mini:latest"]["digest"] == listed["m:latest"]["digest"]
    ids = {one["id"] for one in model_lists.openai_list(models)["data"]}
    assert ids == {"m:latest", "gpt-4o-mini"}


def test_corral_models_says_what_an_alias_stands_for() -> None:
    """Behind its name."""
    assert (
        _cells({**row("gpt:latest"), "alias_of": "m:latest", "loaded_on": []})[0] == "gpt:latest -> m:latest"
    )


def test_an_alias_of_what_nobody_has_is_not_listed() -> None:
    """It could not be served."""
    assert names(roster_of({"a": [row("m:latest")]}, other=ModelConfig(aliases=("x",)))) == ["m:latest"]


def test_an_alias_goes_before_a_model_of_its_name() -> None:
    """As it does when a request asks for it."""
    stores = {"a": [row("m:latest", digest="1" * 64), row("n:latest", digest="2" * 64)]}
    roster = roster_of(stores, m=ModelConfig(aliases=("n",)))
    model = offered(roster, "N:latest")
    assert model is not None
    assert (model.own_name, model.digest) == ("m:latest", "1" * 64)


def test_openai_object_has_ollamas_fields() -> None:
    """`created` is when the model came into the store and `owned_by` the namespace of the name."""
    model = Listed("anna/m:latest", row("anna/m:latest", "2025-01-01T00:00:00Z"))
    wanted = {"id": "anna/m", "object": "model", "created": 1735689600, "owned_by": "anna"}
    assert model_lists.openai_model(model, "anna/m") == wanted


def listed(count: int) -> list[Listed]:
    """Return models m00, m01 and so on."""
    return [Listed(f"m{number:02}:latest", row(f"m{number:02}:latest")) for number in range(count)]


def ids(page: dict[str, Any]) -> list[str]:
    """Return the short names on a page."""
    return [one["id"].removesuffix(":latest") for one in page["data"]]


def test_anthropics_list_has_pages_of_twenty() -> None:
    """Its clients follow `last_id` until there is no more."""
    models = listed(23)
    first = model_lists.anthropic_list(models, {})
    assert (len(first["data"]), first["has_more"]) == (20, True)
    second = model_lists.anthropic_list(models, {"after_id": first["last_id"]})
    assert (ids(second), second["has_more"]) == (["m20", "m21", "m22"], False)


def test_anthropics_list_goes_backwards_too() -> None:
    """The page before a model ends with its neighbour."""
    page = model_lists.anthropic_list(listed(9), {"before_id": "m05:latest", "limit": "2"})
    assert (ids(page), page["has_more"]) == (["m03", "m04"], True)


def test_anthropics_object_has_a_name_to_show_and_a_time() -> None:
    """RFC 3339, in UTC."""
    model = Listed("m:latest", row("m:latest", "2025-01-01T01:00:00.123456789+01:00"))
    assert model_lists.anthropic_list([model], {})["data"] == [
        {"type": "model", "id": "m:latest", "display_name": "m:latest", "created_at": "2025-01-01T00:00:00Z"}
    ]


def test_an_empty_list_of_anthropics_has_no_cursors() -> None:
    """They are null."""
    empty = {"data": [], "has_more": False, "first_id": None, "last_id": None}
    assert model_lists.anthropic_list([], {}) == empty


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "1001"}, {"limit": "ten"}, {"limit": "٣"}, {"after_id": "nobody"}]
)
def test_a_page_that_cannot_be_is_refused_by_name(query: dict[str, str]) -> None:
    """The text says which parameter."""
    with pytest.raises(BadRequestError, match=next(iter(query))):
        model_lists.anthropic_list(listed(1), query)


@pytest.mark.parametrize("text", [None, "", "yesterday", 7])
def test_a_time_that_is_none_is_long_ago(text: object) -> None:
    """A worker that does not tell it breaks no list."""
    assert model_lists.moment(text) == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "body", ['{"model": "m"}', '{"name": "m"}', '{"Model": "m"}', '{"model": "", "name": "m"}']
)
def test_show_takes_the_name_where_clients_write_it(body: str) -> None:
    """Old ones say `name`; keys match in any case."""
    asked = read_show(body.encode())
    assert (asked.model, asked.verbose, asked.cacheable) == ("m", False, True)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "missing request body"),
        ("[]", "cannot unmarshal array into Go value of type api.ShowRequest"),
        ("{}", "model is required"),
        ('{"model": "a b"}', "invalid model name"),
        ('{"model": 7}', "cannot unmarshal number into Go struct field ShowRequest.model of type string"),
        ('{"model": "m", "name": []}', "array into Go struct field ShowRequest.name of type string"),
        ('{"model": "m", "verbose": 1}', "number into Go struct field ShowRequest.verbose of type bool"),
        ('{"model": "m", "options": 1}', "ShowRequest.options of type map.string.interface {}"),
    ],
)
def test_show_refuses_as_ollama_does(body: str, text: str) -> None:
    """With a 400."""
    with pytest.raises(BadRequestError, match=text) as refusal:
        read_show(body.encode())
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("extra", "cacheable"),
    [
        ({"verbose": True}, True),
        ({"system": "", "options": {}}, True),
        ({"system": "be kind"}, False),
        ({"options": {"seed": 1}}, False),
        ({"odd": "yes"}, False),
    ],
)
def test_show_keeps_what_everybody_gets(extra: dict[str, Any], cacheable: bool) -> None:  # noqa: FBT001 -- a case
    """`system` and `options` change the answer, and what is odd is the worker's to judge."""
    asked = read_show(json.dumps({"name": "m", **extra}).encode())
    assert asked.cacheable is cacheable
    assert json.loads(asked.body_for("m:latest")) == {"model": "m:latest", **extra}


def test_copilot_is_told_the_name_that_it_asked_for() -> None:
    """It shows `general.basename`, as a real Ollama knows."""
    shown = json.dumps({"model_info": {"general.basename": "Llama", "x": 1}}).encode()
    assert for_client(shown, "m", "curl/8") == shown
    told = json.loads(for_client(shown, "m", "GitHubCopilotChat/0.30"))
    assert told["model_info"] == {"general.basename": "m", "x": 1}
