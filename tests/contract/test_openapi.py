"""A running Corral of embedded workers, held to the description that it serves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Final
from unittest.mock import create_autospec

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.http.admin import AdminHandlers
from gateway.http.app import client_application, surface_of
from gateway.http.blobs import BlobHandlers
from gateway.http.bodies import BodyLimit
from gateway.http.body_room import BodyRoom
from gateway.http.edge import Edge
from gateway.http.inference import InferenceHandlers
from gateway.http.listing import ListingHandlers
from gateway.http.openapi import openapi
from gateway.http.origins import Origins
from gateway.http.store import StoreHandlers
from gateway.surfaces.description import NDJSON, OPERATIONS, described
from tests.support.corral import Corral, corral
from tests.support.models import counting_model, embedding_model
from tests.support.registry import Registry, registry

Request = Case[Any]

DOCUMENT: Final = described()
SCHEMA: Final = schemathesis.openapi.from_dict(DOCUMENT)
EXAMPLES: Final = 10
AIMED: Final = {"/api/copy": "source", "/api/create": "from"}
"""Fields that name a model which is to be there, where that is not `model`."""
INFERENCE: Final = ("/api/generate", "/api/chat", "/api/embed", "/api/embeddings")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corral]:
    """One Corral for all: it has to live with whatever it is asked."""
    directory = tmp_path_factory.mktemp("described")
    counting_model(directory / "models")
    embedding_model(directory / "models", name="embed")
    with corral(directory) as running:
        yield running


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with one model, so that no test asks a real one."""
    with registry() as shop:
        shop.add("shelf", counting_model(tmp_path_factory.mktemp("shop")))
        yield shop


# The table and the routes -----------------------------------------------------------------


def test_every_route_is_described_and_every_description_has_a_route() -> None:
    """Whoever adds a route is told here to describe it."""
    inference, store = create_autospec(InferenceHandlers), create_autospec(StoreHandlers)
    inference.handler.return_value = store.handler.return_value = openapi
    store.blobs = create_autospec(BlobHandlers)
    app = client_application(
        inference,
        create_autospec(ListingHandlers),
        create_autospec(AdminHandlers),
        store,
        Edge(Origins((), loopback=True, hostname="here"), surface_of),
        body_limit=BodyLimit(1, BodyRoom(1)),
    )
    routes = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}
    assert routes == {(operation.method, operation.path) for operation in OPERATIONS}


def test_the_description_is_valid_openapi() -> None:
    """By the rules of its own version."""
    SCHEMA.validate()


def test_no_operation_is_described_twice() -> None:
    """Each has an id of its own."""
    ids = [method["operationId"] for path in DOCUMENT["paths"].values() for method in path.values()]
    assert len(ids) == len(set(ids)) == len(OPERATIONS)


def test_the_description_is_served(running: Corral) -> None:
    """Just as it is written."""
    assert httpx.get(f"{running.url}/corral/openapi.json", trust_env=False).json() == DOCUMENT


# A running Corral and the table -------------------------------------------------------------


def holds(response: Response, case: Request) -> None:
    """Check one answer: status, content type, headers and body are as described; NDJSON line by line."""
    case.validate_response(
        response,
        checks=[
            status_code_conformance,
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
        ],
    )
    if response.headers.get("content-type", [""])[0].startswith(NDJSON):
        promised = line_validator(case.path)
        for line in response.content.splitlines():
            assert promised.is_valid(json.loads(line)), f"{case.path}: {line!r}"


@cache
def line_validator(path: str) -> jsonschema_rs.Validator:
    """Return what tells whether a line of a stream is the object that the route promises, or an error."""
    promised = DOCUMENT["paths"][path]["post"]["responses"]["200"]["content"][NDJSON]["schema"]
    document = {"components": DOCUMENT["components"], "anyOf": [promised, {"required": ["error"]}]}
    return jsonschema_rs.validator_for(document)


def aimed(case: Request, model: str | None, shop: Registry) -> Request:
    """Point a generated request at a model that is there, and at no registry but the test's."""
    body: Any = case.body
    if not isinstance(body, dict):
        return case
    if case.path in {"/api/pull", "/api/push"}:
        name = f"http://{shop.address}/library/{'shelf' if model else 'nothing'}"
        body |= {"model": name, "name": name, "insecure": True}
    elif model is not None and case.path in AIMED:
        body |= {AIMED[case.path]: model}
    elif model is not None and "model" in body and case.path not in {"/api/create", "/api/delete"}:
        body["model"] = model
    if case.path in INFERENCE and isinstance(body.get("options") or {}, dict):
        body["options"] = {**(body.get("options") or {}), "num_predict": 2}
    elif case.path in {"/v1/chat/completions", "/v1/completions", "/v1/messages"}:
        body["max_tokens"] = 2
    elif case.path == "/v1/responses":
        body["max_output_tokens"] = 2
    return case


def cases(path: str, method: str) -> st.SearchStrategy[Request]:
    """Return requests as they are described, and some that are not."""
    operation, modes = SCHEMA[path][method], schemathesis.GenerationMode
    described, undescribed = (operation.as_strategy(generation_mode=mode) for mode in modes)
    return described | undescribed if operation.body or operation.query else described


@pytest.mark.parametrize(("path", "method"), [(one.path, one.method) for one in OPERATIONS])
def test_answers_are_as_described(running: Corral, shop: Registry, path: str, method: str) -> None:
    """Whatever is asked: every status is one that is described, and every object has its fields."""

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(path, method), st.sampled_from(["count", "embed", "count", None]))
    def ask(case: Request, model: str | None) -> None:
        asked = aimed(case, model, shop)
        holds(asked.call(base_url=running.url), asked)

    ask()


BRIEF: Final = {"num_predict": 2}
GOOD: Final[tuple[tuple[str, str, dict[str, Any] | None], ...]] = (
    ("POST", "/api/generate", {"model": "count", "prompt": "go", "options": BRIEF}),
    ("POST", "/api/generate", {"model": "count", "prompt": "go", "stream": False, "options": BRIEF}),
    ("POST", "/api/generate", {"model": "count"}),
    (
        "POST",
        "/api/chat",
        {"model": "count", "messages": [{"role": "user", "content": "go"}], "options": BRIEF},
    ),
    ("POST", "/api/chat", {"model": "count", "messages": [], "keep_alive": 0}),
    ("POST", "/api/embed", {"model": "embed", "input": ["one", "two"]}),
    ("POST", "/api/embeddings", {"model": "embed", "prompt": "one"}),
    ("POST", "/api/show", {"model": "count"}),
    ("POST", "/api/show", {"model": "count", "verbose": True}),
    ("POST", "/api/pull", {"model": "http://SHOP/library/shelf", "insecure": True}),
    ("POST", "/api/create", {"model": "made", "from": "count", "system": "Count."}),
    ("POST", "/api/copy", {"source": "made", "destination": "copy"}),
    ("GET", "/api/ps", None),
    ("GET", "/api/tags", None),
    ("DELETE", "/api/delete", {"model": "copy"}),
    ("GET", "/api/version", None),
    ("GET", "/v1/models", None),
    ("GET", "/corral/health", None),
)


def test_what_is_right_succeeds_as_described(running: Corral, shop: Registry) -> None:
    """One request after another, as a person would make them: models are pulled, made, copied and deleted."""
    for method, path, body in GOOD:
        written = json.loads(json.dumps(body).replace("SHOP", shop.address))
        more = {} if body is None else {"body": written, "media_type": "application/json"}
        case = SCHEMA[path][method].Case(**more)
        response = case.call(base_url=running.url)
        assert response.status_code == 200, f"{method} {path}: {response.text}"
        holds(response, case)
        assert b'"error"' not in response.content, f"{method} {path}: {response.text}"
