"""What every client API must offer to the relay, and what a request tells the scheduler.

Decides the vocabulary only. Knows no HTTP server, no worker and no engine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

RUNNER_OPTIONS: Final = (
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
    "draft_num_predict",
    "shift",
)
"""Options that make Ollama reload a runner. They are the operator's: a request's are left out and told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that scheduling and relaying may know of a request."""

    model: str
    """As the client wrote it."""
    stream: bool
    keep_alive_s: float | None = None
    keep_alive_given: bool = False
    """Whether the client said how long the model is to stay; then `keep_alive_s` None is for ever."""
    ignored_options: Mapping[str, Any] = field(default_factory=dict)
    """Runner options that were asked for and are not honoured."""


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request's facts, and the body that goes to the worker."""

    facts: Facts
    body: bytes
    unload_reply: Mapping[str, Any] | None = None
    """Set when all that is asked is that the model leave memory: the answer, without `created_at`."""


class BadRequestError(Exception):
    """The request cannot be served as it is; the text says what is wrong."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class Surface(Protocol):
    """One client API."""

    name: str
    routes: frozenset[str]
    """Paths of POST requests that need a slot; a worker knows them under the same path."""
    carries_context: bool
    """Whether its requests can say with which context a model is to run."""

    def parse(self, route: str, body: bytes) -> ParsedRequest:
        """Read a request.

        Raises:
            BadRequestError: not JSON, no model, or a field of the wrong type.
        """

    def error(self, status: int, message: str) -> bytes:
        """Return an error body in the client's own shape."""

    def error_frame(self, message: str) -> bytes:
        """Return what tells a client in the middle of a stream that it failed."""

    def final_mark(self, route: str) -> bytes:
        """Return the bytes that a stream which ended well contains in its last frames."""

    def tokens(self, tail: bytes) -> int | None:
        """Return the number of generated tokens that the end of an answer tells, or None."""


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body.

    Raises:
        BadRequestError: empty, not JSON, or not an object.
    """
    if not body.strip():
        raise BadRequestError("missing request body")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"invalid JSON in the request body: {error}") from error
    if not isinstance(parsed, dict):
        raise BadRequestError("the request body must be a JSON object")
    return parsed


def read_model(request: Mapping[str, Any]) -> str:
    """Return the model's name.

    Raises:
        BadRequestError: missing, or not a text.
    """
    model = request.get("model")
    if model is None or model == "":
        raise BadRequestError("model is required")
    if not isinstance(model, str):
        raise BadRequestError(f"model must be a string, not {_json_type(model)}")
    return model


def read_flag(request: Mapping[str, Any], key: str, *, default: bool) -> bool:
    """Return a boolean field; null counts as missing.

    Raises:
        BadRequestError: another type.
    """
    value = request.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequestError(f"{key} must be true or false, not {_json_type(value)}")
    return value


def addressed(body: bytes, *, model: str, num_ctx: int | None) -> bytes:
    """Return a body for another name of the model, and with the context that it is to run with.

    A context that is the worker's own needs no word.
    """
    request = json.loads(body)
    request["model"] = model
    if num_ctx is not None:
        request["options"] = {**(request.get("options") or {}), "num_ctx": num_ctx}
    return json.dumps(request, ensure_ascii=False).encode()


def last_count(pattern: bytes, tail: bytes) -> int | None:
    """Return the integer behind the last occurrence of a key such as `"eval_count":`."""
    at = tail.rfind(pattern)
    digits = (
        tail[at + len(pattern) : at + len(pattern) + 20].split(b",")[0].strip(b" }]\r\n") if at >= 0 else b""
    )
    return int(digits) if digits.isdigit() else None


def _json_type(value: object) -> str:
    match value:
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case None:
            return "null"
        case _:
            return "an object"
