"""Whether an answer that begins so can go to the client, or is a failure of its worker. Pure.

An error that is the request's own fault, such as an option of the wrong type, is the client's to see, though
Ollama gives it a 500 too. So the 500s that tell of a broken worker are known by their words.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

from gateway.relay.outcome import Broken, Failing, Garbage, NoRoute, Outcome, Refused
from supervisor.contract.wire import RUNNER_TERMINATED

_BROKEN_WORKER: Final = tuple(
    text.lower()
    for text in (
        RUNNER_TERMINATED,
        "llama runner process no longer running",
        "an error was encountered while running the model",
        "model runner has unexpectedly stopped",
        "model failed to load, this may be due to resource limitations",
        "timed out waiting for llama runner",
        "error starting runner",
        "CUDA error",
        "ROCm error",
        "out of memory",
        "connection refused",  # to its own runner
        "EOF",
    )
)
"""Words of a 500 that the worker, not the request, is to blame for. Source: server/, llm/ and runner/ of
Ollama 0.13 to 0.33."""
_PROXY_TROUBLE: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})
"""What a proxy before somebody else's worker says when that is gone."""
_LONGEST_SAID: Final = 200
"""Characters of an error that are told."""


def failure_of(status: int, content_type: str, first: bytes) -> Outcome | None:
    """Return why an answer that begins so is none for the client, or None when it is."""
    if content_type.startswith(("text/html", "application/xhtml")):
        return Garbage(f"a web page with status {status}")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return Refused(status, error_text(first))
    if status == HTTPStatus.NOT_FOUND and not first.lstrip().startswith(b"{"):
        # `404 page not found`: the server has no such route; of a model that it does not have it tells JSON
        return NoRoute("the worker does not know this API")
    if status in _PROXY_TROUBLE or (status == HTTPStatus.INTERNAL_SERVER_ERROR and _tells_of_trouble(first)):
        return Failing(status, error_text(first)[:_LONGEST_SAID])
    return None if first else Broken(0, "the answer was empty")


def mistake_in(content_type: str, body: bytes) -> str | None:
    """Return what is wrong with the whole body of a good answer, as far as its ends show."""
    if content_type.startswith("application/json") and body.strip()[-1:] not in (b"}", b"]"):
        return "its JSON has no end"
    return None


def error_text(body: bytes) -> str:
    """Return the message of an error body, whichever surface's shape it has."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, LookupError, TypeError):
        return body.decode(errors="replace").strip()
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def error_at_end(tail: bytes) -> str:
    """Return what the last frame of a stream says went wrong; empty when it says nothing of the kind.

    `tail` is its end, which may begin in the middle of a frame. A text that a model wrote is inside of a
    frame, so it is never taken for an error.
    """
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    try:
        told = json.loads(lines[-1].removeprefix(b"data:")) if lines else None
    except ValueError:
        return ""
    return (
        error_text(lines[-1].removeprefix(b"data:")) if isinstance(told, dict) and told.get("error") else ""
    )


def _tells_of_trouble(body: bytes) -> bool:
    said = error_text(body).lower()
    return any(text in said for text in _BROKEN_WORKER)
