"""Ollama's native API: NDJSON streams by default, `{"error": text}`, `"done":true` at the end.

Decides what its requests mean and how its answers end. Knows nothing of HTTP or workers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.surfaces.identity import Caller
from gateway.surfaces.naming import wrong_type
from gateway.surfaces.surface import (
    NOBODY,
    RUNNER_OPTIONS,
    BadRequestError,
    Counts,
    ParsedRequest,
    last_count,
    read_facts,
    read_flag,
    read_object,
    with_known_keys,
)
from supervisor.contract.durations import InvalidDurationError, parse_keep_alive
from supervisor.contract.go_json import go_type

_PROMPT_KEY: Final = {"/api/generate": "prompt", "/api/chat": "messages"}
_STREAMED: Final = frozenset(_PROMPT_KEY)


class OllamaSurface:
    """generate, chat, embed and embeddings."""

    name = "ollama"
    routes = frozenset({"/api/generate", "/api/chat", "/api/embed", "/api/embeddings"})
    carries_context = True
    id_header = "X-Request-Id"
    frame_end = b"\n"

    def parse(self, route: str, body: bytes, caller: Caller = NOBODY) -> ParsedRequest:
        """Read a request and take out what is the gateway's to decide: keep_alive and runner options."""
        written = read_object(body, route)
        request = with_known_keys(written)
        streamed = read_flag(request, "stream", default=True, route=route) if route in _STREAMED else False
        keep_alive_given, keep_alive_s = _keep_alive(request)
        facts = replace(
            read_facts(request, caller, stream=streamed, converses=route in _STREAMED, route=route),
            keep_alive_s=keep_alive_s,
            keep_alive_given=keep_alive_given,
            runner_options=_runner_options(route, request),
        )
        unload = keep_alive_given and keep_alive_s == 0.0 and _asks_nothing(route, request)
        reply = _unload_reply(route, facts.model) if unload else None
        changed = request is not written or "keep_alive" in request or bool(facts.runner_options)
        return ParsedRequest(facts, _for_worker(request) if changed else body, reply)

    def error(self, status: int, message: str, *, request_id: str = "") -> bytes:  # noqa: ARG002 -- the message is all of this shape
        """Return `{"error": message}`."""
        return json.dumps({"error": message}).encode()

    def error_frame(self, message: str, frames: int = 0) -> bytes:  # noqa: ARG002 -- lines have no number
        """Return the error as a last line."""
        return self.error(500, message) + b"\n"

    def final_marks(self, route: str) -> tuple[bytes, ...]:  # noqa: ARG002 -- the same on all routes
        r"""Return the last frame's mark; inside a JSON text its quotes would be escaped."""
        return (b'"done":true',)

    def counts(self, route: str, tail: bytes, frames: int) -> Counts:  # noqa: ARG002 -- the last one tells
        """Return `eval_count` and `prompt_eval_count` of the last frame."""
        output = last_count(b'"eval_count":', tail) if route in _STREAMED else 0
        return Counts(output, last_count(b'"prompt_eval_count":', tail))


def _keep_alive(request: Mapping[str, Any]) -> tuple[bool, float | None]:
    value = request.get("keep_alive")
    if value is None:
        return False, None
    if isinstance(value, (bool, list, dict)):
        raise BadRequestError(f"Unsupported type: '{go_type(value)}'")
    try:
        return True, parse_keep_alive(value)
    except InvalidDurationError as error:
        raise BadRequestError(str(error)) from error


def _runner_options(route: str, request: Mapping[str, Any]) -> dict[str, Any]:
    options = request.get("options")
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise BadRequestError(wrong_type(route, "options", options, "map[string]interface {}"))
    return {key: options[key] for key in RUNNER_OPTIONS if key in options}


def _asks_nothing(route: str, request: Mapping[str, Any]) -> bool:
    key = _PROMPT_KEY.get(route)
    return key is not None and not request.get(key)


def _unload_reply(route: str, model: str) -> dict[str, Any]:
    """Return what Ollama answers to an empty request with `keep_alive: 0`."""
    content: dict[str, Any] = {"response": ""}
    if route == "/api/chat":
        content = {"message": {"role": "assistant", "content": ""}}
    return {"model": model, **content, "done": True, "done_reason": "unload"}


def _for_worker(request: Mapping[str, Any]) -> bytes:
    kept = {key: value for key, value in request.items() if key != "keep_alive"}
    if isinstance(kept.get("options"), dict):
        kept["options"] = {k: v for k, v in kept["options"].items() if k not in RUNNER_OPTIONS}
    return json.dumps(kept).encode()
