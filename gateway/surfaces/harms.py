"""Which requests a worker is known to die of, so that they are refused before they get there. Pure.

Each was seen to end a real Ollama 0.24, or the runner of a model with all requests for it. What every worker
would refuse or die of is refused at once; what only an Ollama dies of is told, because which worker will
serve is not known yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from gateway.surfaces.naming import wrong_type
from gateway.surfaces.schemas import schema_risk

_TOKEN_LIMIT: Final = 2**31
"""llama.cpp counts tokens in 32 bits with a sign; Ollama cuts larger numbers off to that."""
MOST_CONTEXT: Final = 2**20
"""Of tokens; Ollama joins their texts one by one, which takes minutes for more."""
MOST_REPEAT: Final = 2**20
"""Of `repeat_last_n`: the runner reserves room for as many."""


@dataclass(frozen=True, slots=True)
class Harm:
    """What is wrong with a request."""

    refusal: str = ""
    """Why no worker may see it; empty when one may."""
    ollama: str = ""
    """What in it would crash an Ollama; empty when nothing is known to."""
    highest_token: int = -1
    """In its `context`: a model with fewer tokens dies of it. -1 when there is none."""


HARMLESS: Final = Harm()


def harm_of(route: str, request: Mapping[str, Any]) -> Harm:
    """Return what is known to be harmful in a request."""
    refusal = _context_mistake(route, request) or _option_mistake(request)
    if refusal:
        return Harm(refusal=refusal)
    schema = _schema_of(request)
    risk = schema_risk(schema) if isinstance(schema, dict) else None
    tokens = request.get("context") if route == "/api/generate" else None
    if not risk and not tokens:
        return HARMLESS
    highest = max((token or 0 for token in tokens or ()), default=-1)
    return Harm(ollama=f"the JSON schema has {risk}" if risk else "", highest_token=highest)


def _context_mistake(route: str, request: Mapping[str, Any]) -> str:
    tokens = request.get("context")
    if route != "/api/generate" or tokens is None:
        return ""
    if not isinstance(tokens, list):
        return wrong_type(route, "context", tokens, "[]int")
    if len(tokens) > MOST_CONTEXT:
        return f"context has {len(tokens)} tokens: send no more than {MOST_CONTEXT}"
    for token in tokens:
        if token is None:  # Go reads it as 0
            continue
        if isinstance(token, bool) or not isinstance(token, int):
            return wrong_type(route, "context", token, "int")
        if not 0 <= token < _TOKEN_LIMIT:
            return f"context holds {token}, which is no token of any model: send what an answer gave"
    return ""


def _option_mistake(request: Mapping[str, Any]) -> str:
    """Return what is wrong with an option; types are the worker's to check."""
    options = request.get("options")
    if not isinstance(options, dict):
        return ""
    penalty, last = options.get("repeat_penalty"), options.get("repeat_last_n")
    if _is_number(penalty) and penalty <= 0:
        return f"repeat_penalty {penalty} must be more than 0: 1 is no penalty"
    if _is_number(last) and last > MOST_REPEAT:
        return (
            f"repeat_last_n {last} is out of range: give {MOST_REPEAT} or less, or -1 for the whole context"
        )
    return ""


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _schema_of(request: Mapping[str, Any]) -> object:
    """Return the schema that an answer is to follow, wherever an API has it."""
    for path in (
        ("response_format", "json_schema", "schema"),  # OpenAI's chat
        ("text", "format", "schema"),  # OpenAI's Responses
        ("output_config", "format", "schema"),  # Anthropic's Messages
        ("format",),  # Ollama
    ):
        node: object = request
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, dict):
            return node
    return None
