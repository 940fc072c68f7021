"""The OpenAPI 3.1 description of the clients' port, served at /corral/openapi.json: one table, written out.

Decides what is promised of each route: what it takes, which answers it gives and in which shape. A test holds
the table to the application's routes in both directions, and a running Corral to the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from gateway.surfaces import described_shapes as shapes
from gateway.surfaces.described_shapes import Shape
from supervisor.contract.wire import OLLAMA_API_VERSION, RUNNING_TEXT

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
SSE: Final = "text/event-stream"
TEXT: Final = "text/plain"
BYTES: Final = "application/octet-stream"
MULTIPART: Final = "multipart/form-data"

_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
"""In plain text too where something stands in the path: not every text there makes a route."""

Content = Mapping[str, tuple[type[Shape], ...] | None]
"""By media type, one of these objects (a line, where it is a stream); None is no JSON."""

_BODY: Final = {
    400: "The request is not what the route takes.",
    408: "The body came too slowly.",
    413: "The body is larger than gateway.max_body_size.",
    415: "The body's encoding is not supported.",
}
_MODEL: Final = {404: "No worker has the model."}
_SERVING: Final = {
    500: "The worker failed, or cannot run the model or take these options.",
    502: "The worker could not be reached, or broke off before its answer.",
    503: "The queue is full or the wait too long; Retry-After says when to come again.",
    504: "The worker did not answer in time.",
}
_INFERENCE: Final = _BODY | _MODEL | _SERVING
_COMPATIBLE: Final = _INFERENCE | {
    405: "The worker's engine knows the route otherwise.",
    501: "No worker that has the model speaks this API.",
}
_SHOW: Final = (
    _BODY
    | _MODEL
    | {
        500: "The worker cannot read the model.",
        502: "No worker that has the model answers.",
        503: "No worker that has it is ready.",
    }
)
_STORE: Final = (
    _BODY
    | _MODEL
    | _SERVING
    | {
        401: "The registry wants to know who asks.",
        403: "The store or the registry does not allow it.",
        501: "The engine of the workers cannot do that.",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one route."""

    method: str
    path: str
    """As the application's router writes it."""
    summary: str
    takes: Content | None = None
    gives: Mapping[int, Content] = field(default_factory=dict)
    fails: Mapping[int, str] = field(default_factory=dict)
    failure: tuple[type[Shape], ...] | None = (shapes.Failure,)
    """The object of a failure; None is an empty body."""
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    in_path: Mapping[str, Any] = field(default_factory=dict)
    """The schema of what stands in the path, if anything does."""


def _inference(
    path: str, summary: str, asks: type[Shape], answer: type[Shape], *, streams: bool
) -> Operation:
    stream: Content = {NDJSON: (answer,)} if streams else {}
    return Operation(
        method="POST",
        path=path,
        summary=summary,
        takes={JSON: (asks,)},
        gives={200: {JSON: (answer,), **stream}},
        fails=_INFERENCE,
    )


def _compatible(
    path: str, summary: str, *, media: Iterable[str] = (JSON,), takes: str = JSON, anthropic: bool = False
) -> Operation:
    given: Content = {kind: (shapes.Compatible,) if kind == JSON else None for kind in media}
    return Operation(
        method="POST",
        path=path,
        summary=summary,
        takes={takes: (shapes.CompatibleRequest,)},
        gives={200: given},
        fails=_COMPATIBLE,
        failure=(shapes.AnthropicFailure,) if anthropic else (shapes.OpenAIFailure,),
    )


def _store(
    path: str, summary: str, asks: type[Shape], *, method: str = "POST", progress: bool = True
) -> Operation:
    told: Content = {NDJSON: (shapes.Progress,), JSON: (shapes.Progress,)} if progress else {}
    return Operation(
        method=method, path=path, summary=summary, takes={JSON: (asks,)}, gives={200: told}, fails=_STORE
    )


def _reading(path: str, summary: str, content: Content) -> Operation:
    return Operation(method="GET", path=path, summary=summary, gives={200: content})


def _probe(path: str, summary: str, *statuses: int) -> Operation:
    return Operation(method="HEAD", path=path, summary=summary, gives={status: {} for status in statuses})


_V1_FAILURE: Final = (shapes.OpenAIFailure, shapes.AnthropicFailure)
_V1_HEADER: Final[Mapping[str, Mapping[str, Any]]] = {
    "anthropic-version": {
        "type": "string",
        "examples": ["2023-06-01"],
        "description": "with it the answer is Anthropic's",
    }
}
_CURSOR: Final[Mapping[str, Any]] = {"type": "string", "description": "Anthropic's: an id of the list"}
_LIMIT: Final[Mapping[str, Any]] = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20}
_DIGEST: Final[Mapping[str, Any]] = {"type": "string", "pattern": "^sha256[:-][0-9a-f]{64}$"}
_ANSWER: Final = (JSON, SSE)

OPERATIONS: Final[tuple[Operation, ...]] = (
    _reading("/", f"Say `{RUNNING_TEXT}`.", {TEXT: None}),
    _probe("/", "Tell that a server is there.", 200),
    _reading("/api/version", "Tell the version of the API.", {JSON: (shapes.Version,)}),
    _probe("/api/version", "Tell that the API is there.", 200),
    _inference(
        "/api/generate", "Complete a prompt.", shapes.GenerateRequest, shapes.GenerateFrame, streams=True
    ),
    _inference("/api/chat", "Go on with a conversation.", shapes.ChatRequest, shapes.ChatFrame, streams=True),
    _inference("/api/embed", "Embed texts.", shapes.EmbedRequest, shapes.EmbedAnswer, streams=False),
    _inference(
        "/api/embeddings", "Embed one text.", shapes.EmbeddingsRequest, shapes.EmbeddingsAnswer, streams=False
    ),
    _reading("/api/tags", "List the models of all workers.", {JSON: (shapes.Tags,)}),
    _probe("/api/tags", "Tell that there is a list.", 200),
    _reading("/api/ps", "List what is loaded, and where.", {JSON: (shapes.Residents,)}),
    Operation(
        method="POST",
        path="/api/show",
        summary="Tell all about a model.",
        takes={JSON: (shapes.ShowRequest,)},
        gives={200: {JSON: (shapes.ShowAnswer,)}},
        fails=_SHOW,
    ),
    _store("/api/pull", "Fetch a model from its registry.", shapes.PullRequest),
    _store("/api/push", "Send a model to its registry.", shapes.PullRequest),
    _store("/api/create", "Make a model of another one or of files.", shapes.CreateRequest),
    _store("/api/copy", "Give a model a second name.", shapes.CopyRequest, progress=False),
    _store("/api/delete", "Forget a name.", shapes.DeleteRequest, method="DELETE", progress=False),
    Operation(
        method="HEAD",
        path="/api/blobs/{digest}",
        summary="Tell whether the stores have a part of a model.",
        gives={200: {}},
        fails={
            400: "No digest.",
            404: "A store lacks it.",
            502: "A store cannot be asked.",
            503: "None is ready.",
        },
        failure=None,
        in_path=_DIGEST,
    ),
    Operation(
        method="POST",
        path="/api/blobs/{digest}",
        summary="Send a part of a model, of any size.",
        takes={BYTES: None},
        gives={200: {}, 201: {}},
        fails=_STORE,
        in_path=_DIGEST,
    ),
    _compatible("/v1/chat/completions", "OpenAI's chat completions.", media=_ANSWER),
    _compatible("/v1/completions", "OpenAI's completions.", media=_ANSWER),
    _compatible("/v1/embeddings", "OpenAI's embeddings."),
    _compatible("/v1/responses", "OpenAI's responses.", media=_ANSWER),
    _compatible(
        "/v1/audio/transcriptions", "OpenAI's transcriptions.", media=(JSON, TEXT, SSE), takes=MULTIPART
    ),
    _compatible("/v1/messages", "Anthropic's messages.", media=_ANSWER, anthropic=True),
    _compatible("/v1/messages/count_tokens", "Anthropic's count of tokens.", anthropic=True),
    *(
        _compatible(path, "Order documents by their relevance to a query.")
        for path in ("/v1/rerank", "/v1/reranking", "/v2/rerank", "/rerank", "/reranking")
    ),
    Operation(
        method="GET",
        path="/v1/models",
        summary="List the models and aliases as OpenAI does, or Anthropic.",
        gives={200: {JSON: (shapes.OpenAIModels, shapes.AnthropicModels)}},
        fails={400: "A page that cannot be."},
        failure=_V1_FAILURE,
        query={"limit": _LIMIT, "after_id": _CURSOR, "before_id": _CURSOR},
        headers=_V1_HEADER,
    ),
    Operation(
        method="GET",
        path="/v1/models/{model}",
        summary="Describe one model the same way.",
        gives={200: {JSON: (shapes.OpenAIModel, shapes.AnthropicModel)}},
        fails={400: "No model can have that name.", 404: "No worker has the model."},
        failure=_V1_FAILURE,
        headers=_V1_HEADER,
        in_path={"type": "string", "pattern": shapes.NAME},
    ),
    Operation(
        method="GET",
        path="/corral/health",
        summary="Tell whether requests can be served.",
        gives={200: {JSON: (shapes.Health,)}, 503: {JSON: (shapes.Health,)}},
    ),
    _probe("/corral/health", "The same without a body.", 200, 503),
    _reading("/corral/openapi.json", "Describe this API.", {JSON: (shapes.Description,)}),
    _probe("/corral/openapi.json", "Tell that there is a description.", 200),
)


def described() -> dict[str, Any]:
    """Return the whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _written(operation)
    about = (
        "Ollama's API over many workers; the routes of OpenAI and Anthropic as their makers describe them."
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Corral", "version": OLLAMA_API_VERSION, "description": about},
        "paths": paths,
        "components": {"schemas": _schemas()},
    }


def _schemas() -> dict[str, Any]:
    every = [one for one in vars(shapes).values() if isinstance(one, type) and issubclass(one, Shape)]
    named = [(shape, "validation") for shape in every if shape is not Shape]
    _, written = models_json_schema(named, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]  # a list of literals
    schemas: dict[str, Any] = written["$defs"]
    return schemas


def _written(operation: Operation) -> dict[str, Any]:
    slug = operation.path.translate(str.maketrans("/.", "__", "{}")).strip("_") or "root"
    written: dict[str, Any] = {
        "operationId": f"{operation.method.lower()}_{slug}",
        "summary": operation.summary,
        "parameters": list(_parameters(operation)),
        "responses": {str(status): answer for status, answer in sorted(_answers(operation))},
    }
    if operation.takes is not None:
        written["requestBody"] = {"required": True, "content": _content(operation.takes)}
    return written


def _parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    if operation.in_path:
        name = operation.path.partition("{")[2].partition("}")[0]
        yield {"name": name, "in": "path", "required": True, "schema": dict(operation.in_path)}
    for place, named in (("query", operation.query), ("header", operation.headers)):
        for name, schema in named.items():
            yield {"name": name, "in": place, "required": False, "schema": dict(schema)}


def _answers(operation: Operation) -> Iterable[tuple[int, dict[str, Any]]]:
    for status, content in operation.gives.items():
        yield status, {"description": operation.summary, **_with(content)}
    failure: Content = {} if operation.failure is None else {JSON: operation.failure}
    for status, why in operation.fails.items():
        no_route = {TEXT: None} if status == _NOT_FOUND and operation.in_path and failure else {}
        yield status, {"description": why, **_with({**failure, **no_route})}
    if _FORBIDDEN not in operation.fails:
        yield _FORBIDDEN, {"description": "The page or host that asks may not: gateway.cors_origins."}


def _with(content: Content) -> dict[str, Any]:
    return {"content": _content(content)} if content else {}


def _content(content: Content) -> dict[str, Any]:
    return {media: {} if of is None else {"schema": _one_of(of)} for media, of in content.items()}


def _one_of(of: tuple[type[Shape], ...]) -> dict[str, Any]:
    references = [{"$ref": f"#/components/schemas/{shape.__name__}"} for shape in of]
    return references[0] if len(references) == 1 else {"anyOf": references}
