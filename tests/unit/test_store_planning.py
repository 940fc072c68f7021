from __future__ import annotations

from typing import Any

import pytest

from gateway.external.health import Health
from gateway.external.merging import status_of
from gateway.store.joining import joins_by
from gateway.store.outgoing import is_stand_in, stand_in_for
from gateway.store.planning import RefusedError, addressed, may_resume, needs, plan
from gateway.store.requests import Kind, StoreRequest, identity, parse
from gateway.store.sharing import Member, Store, store_of, stores, writer
from gateway.surfaces.surface import BadRequestError
from supervisor.contract.config import ModelConfig
from tests.support.fake_ollama import FakeOllama

X, Y = identity("x"), identity("y")


def member(worker: str, store: str = "s", *has: str, **more: Any) -> Member:
    """A worker whose store has these models."""
    return Member(worker=worker, store=store, has={identity(name) for name in has}, **more)


def request(kind: Kind, model: str = "x", source: str = "", **body: Any) -> StoreRequest:
    """An operation."""
    return StoreRequest(kind=kind, model=model, source=source, body={"model": model, **body})


def planned(asked: StoreRequest, *members: Member) -> list[str]:
    """Return the workers of the stores that an operation concerns."""
    return [store.workers for store in plan(asked, stores(members)).stores]


def refused(asked: StoreRequest, *members: Member) -> int:
    """Return the status of a refusal."""
    with pytest.raises(RefusedError) as error:
        plan(asked, stores(members))
    return error.value.status


# Which workers share a store, and who changes it ------------------------------------------


def test_workers_of_one_directory_share_it_and_external_ones_share_nothing() -> None:
    """Two downloads into one directory spoil it, so what is not known to be apart is together."""
    own = FakeOllama("w0").status(store="/models")
    assert store_of(own) == store_of(FakeOllama("w1").status(store="/models"))
    assert store_of(FakeOllama("w0").status()) == store_of(FakeOllama("w1").status())
    far = [FakeOllama(name, port=1).external() for name in ("a", "b")]
    assert len({store_of(status_of(worker, Health(), since_unix=0.0)) for worker in far}) == 2


def test_who_may_prune_writes_and_else_who_is_least_busy() -> None:
    """A busy pruner still goes first: the others leave rubbish behind."""
    store = Store("s", (member("w0", busy=1), member("w1", busy=0), member("w2", busy=9, prunes=True)))
    assert writer(store) == store.members[2]
    assert writer(store, avoid={"w2"}) == store.members[1]


def test_nobody_writes_who_is_not_there_or_does_not_have_the_model() -> None:
    """It would say that it is not found."""
    store = Store("s", (member("w0", "s", ready=False), member("w1", "s", "x")))
    assert writer(store, holding=X) == store.members[1]
    assert writer(store, holding=Y) is None
    assert writer(store, avoid={"w1"}) == store.members[1]


# Where an operation takes place ------------------------------------------------------------


def test_a_pull_goes_to_every_store_that_may_serve_the_model() -> None:
    """Elsewhere it would only take room."""
    dedicated = member("c", "3", serves={Y})
    assert planned(request(Kind.PULL), member("a", "1"), member("b", "2"), dedicated) == ["a", "b"]
    assert refused(request(Kind.PULL), dedicated) == 400


def test_a_model_is_made_where_its_source_is() -> None:
    """Unless no store has it: then each pulls it."""
    asked = request(Kind.CREATE, source="y")
    assert planned(asked, member("a", "1"), member("b", "2", "y")) == ["b"]
    assert planned(asked, member("a", "1"), member("b", "2")) == ["a", "b"]


def test_a_copy_is_made_where_the_original_is() -> None:
    """Nowhere is a 404."""
    asked = request(Kind.COPY, source="y")
    assert planned(asked, member("a", "1"), member("b", "2", "y")) == ["b"]
    assert refused(asked, member("a", "1", "x")) == 404


def test_a_model_is_deleted_where_it_is() -> None:
    """Nowhere is a 404."""
    assert planned(request(Kind.DELETE), member("a", "1", "x"), member("b", "2")) == ["a"]
    assert refused(request(Kind.DELETE), member("a", "1", "y")) == 404


def test_a_model_is_pushed_once() -> None:
    """From a store that has it; where none has, some worker says so in its own words."""
    assert planned(request(Kind.PUSH), member("a", "1"), member("b", "2", "x"), member("c", "3", "x")) == [
        "b"
    ]
    assert planned(request(Kind.PUSH), member("a", "1"), member("b", "2")) == ["a"]


def test_a_store_whose_workers_are_down_is_told_apart() -> None:
    """Whoever asked learns that it was left out."""
    found = plan(request(Kind.PULL), stores([member("a", "1"), member("b", "2", ready=False)]))
    assert [store.workers for store in found.absent] == ["b"]
    assert refused(request(Kind.PULL), member("b", ready=False)) == 503
    assert refused(request(Kind.PULL)) == 503


def test_only_what_goes_on_where_it_was_is_begun_again() -> None:
    """A creation may have been done or not."""
    assert [kind for kind in Kind if may_resume(request(kind), 1)] == [Kind.PULL, Kind.PUSH]
    assert not may_resume(request(Kind.PULL), 6)


def test_a_worker_must_list_what_it_is_to_copy_or_delete() -> None:
    """One that reads other directories may not."""
    store = Store("s", (member("a", "s", "x", "y"),))
    wanted = {kind: needs(request(kind, source="y"), store) for kind in Kind}
    assert wanted == {Kind.PULL: "", Kind.PUSH: X, Kind.CREATE: Y, Kind.COPY: Y, Kind.DELETE: X}


# The operator's file ----------------------------------------------------------------------

WISHES = {"real": ModelConfig(aliases=("nick",)), "kept": ModelConfig(min_replicas=1)}


@pytest.mark.parametrize("kind", [Kind.PULL, Kind.PUSH])
def test_an_alias_is_pulled_and_pushed_as_what_it_stands_for(kind: Kind) -> None:
    """No registry knows it."""
    asked = addressed(request(kind, "NICK"), WISHES)
    assert [asked.model, asked.body["model"]] == ["real", "real"]


def test_an_alias_can_be_copied_and_built_upon() -> None:
    """It is a name like others as long as it is only read."""
    assert addressed(request(Kind.COPY, "new", "nick"), WISHES).body["source"] == "real"
    assert addressed(request(Kind.CREATE, "new", "nick"), WISHES).body["from"] == "real"


@pytest.mark.parametrize("kind", [Kind.CREATE, Kind.COPY, Kind.DELETE])
def test_what_an_alias_hides_is_not_changed(kind: Kind) -> None:
    """The model behind it would never be seen, or another one be lost."""
    with pytest.raises(RefusedError, match="alias of real"):
        addressed(request(kind, "nick"), WISHES)


def test_what_is_kept_may_be_replaced_and_not_deleted() -> None:
    """An update is what one wants of it; deleted, the file would want what is not there."""
    assert addressed(request(Kind.PULL, "kept"), WISHES).model == "kept"
    with pytest.raises(RefusedError, match="pin or min_replicas"):
        addressed(request(Kind.DELETE, "KEPT:latest"), WISHES)


# Requests ---------------------------------------------------------------------------------


def test_keys_may_be_written_in_any_case_and_the_old_name_still_works() -> None:
    """As Ollama reads them."""
    asked = parse(Kind.PULL, b'{"Name": "x", "INSECURE": true, "stream": false} trailing')
    assert [asked.model, asked.stream, asked.body] == [
        "x",
        False,
        {"model": "x", "insecure": True, "stream": True},
    ]


def test_a_field_of_a_wrong_type_is_told_as_ollama_does() -> None:
    """In Go's words."""
    with pytest.raises(
        BadRequestError, match=r"number into Go struct field PullRequest\.stream of type bool"
    ):
        parse(Kind.PULL, b'{"model": "x", "stream": 1}')


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        (
            Kind.DELETE,
            b'{"model":"x","name":3}',
            "number into Go struct field DeleteRequest.name of type string",
        ),
        (
            Kind.CREATE,
            b'{"model":"x","name":[]}',
            "array into Go struct field CreateRequest.name of type string",
        ),
        (Kind.PUSH, b"[]", "array into Go value of type api.PushRequest"),
        (Kind.COPY, b'{"source":" x ","destination":"y"}', 'source " x " is invalid'),
        (Kind.COPY, b'{"source":"x","destination":"y "}', 'destination "y " is invalid'),
    ],
)
def test_odd_requests_are_refused_in_ollamas_words(kind: Kind, body: bytes, told: str) -> None:
    """Also for a field that is not needed."""
    with pytest.raises(BadRequestError) as refusal:
        parse(kind, body)
    assert refusal.value.message.endswith(told)


def test_pulls_join_by_the_model_and_how_it_is_pulled() -> None:
    """Names of one model are one; with and without TLS are two."""
    keys = [
        joins_by(parse(Kind.PULL, body))
        for body in (
            b'{"model":"x"}',
            b'{"name":"library/X:latest","stream":false}',
            b'{"model":"x","insecure":true}',
        )
    ]
    assert keys[0] == keys[1] != keys[2]
    assert joins_by(parse(Kind.CREATE, b'{"model":"x","from":"y"}')) is None


def test_second_names_are_told_from_all_others() -> None:
    """They are hidden, so no client's model may look like one by chance."""
    name = stand_in_for(X, "sha256:abc")
    assert is_stand_in(identity(name))
    assert not is_stand_in(X)
    assert name == stand_in_for(X, "sha256:abc") != stand_in_for(X, "sha256:def")
