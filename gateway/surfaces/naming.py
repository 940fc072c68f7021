"""What is said of a model's name that is missing, cannot be one, or that nobody has. Pure.

The texts are those of a real Ollama, which differ from route to route.
Source: Ollama 0.24 `server/routes.go`, and the requests' names in Go in `api/types.go` and `openai/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from supervisor.contract.go_json import mismatch
from supervisor.contract.names import InvalidModelNameError, ModelName
from supervisor.contract.wire import MODEL_REQUIRED, model_not_found, model_not_found_try_pulling

INVALID_NAME: Final = "invalid model name"
_NOT_FOUND: Final = 404
_BAD_REQUEST: Final = 400
_MISSING_IS_UNKNOWN: Final = frozenset({"/api/generate", "/api/embed", "/v1/completions", "/v1/embeddings"})
_TRY_PULLING: Final = frozenset({"/api/embed", "/api/embeddings", "/v1/embeddings"})
_REQUESTS: Final[Mapping[str, str]] = {
    "/api/generate": "api.GenerateRequest",
    "/api/chat": "api.ChatRequest",
    "/api/embed": "api.EmbedRequest",
    "/api/embeddings": "api.EmbeddingRequest",
    "/api/show": "api.ShowRequest",
    "/api/pull": "api.PullRequest",
    "/api/push": "api.PushRequest",
    "/api/create": "api.CreateRequest",
    "/api/copy": "api.CopyRequest",
    "/api/delete": "api.DeleteRequest",
    "/v1/chat/completions": "openai.ChatCompletionRequest",
    "/v1/completions": "openai.CompletionRequest",
    "/v1/embeddings": "openai.EmbedRequest",
    "/v1/messages": "anthropic.MessagesRequest",
    "/v1/messages/count_tokens": "anthropic.CountTokensRequest",
    "/v1/responses": "openai.ResponsesRequest",
}


def name_mistake(route: str, name: str) -> tuple[int, str] | None:
    """Return status and text for what can be no model's name on this route, or None for what can."""
    if not name.strip():
        unknown = route in _MISSING_IS_UNKNOWN
        return (_NOT_FOUND, model_not_found(name)) if unknown else (_BAD_REQUEST, MODEL_REQUIRED)
    try:
        ModelName.parse(name)
    except InvalidModelNameError:
        return _BAD_REQUEST, INVALID_NAME
    return None


def unknown_model(route: str, name: str) -> str:
    """Return the text of a 404 for a model that no worker has."""
    return model_not_found_try_pulling(name) if route in _TRY_PULLING else model_not_found(name)


def wrong_type(route: str, field: str, value: Any, wanted: str) -> str:  # noqa: ANN401 -- any JSON
    """Return Go's text for a field of another type; `wanted` is Go's name of the right one."""
    return mismatch(value, wanted, f"{_request(route).rpartition('.')[2]}.{field}")


def no_object(route: str, value: object) -> str:
    """Return Go's text for a body that is another JSON value."""
    return mismatch(value, _request(route))


def no_body(route: str) -> str:
    """Return what is said to a request without a body."""
    return "EOF" if route.startswith("/v1/") else "missing request body"


def _request(route: str) -> str:
    """Return what the request of a route is called in Go."""
    return _REQUESTS.get(route, "api.Request")
