"""A native request body as a request to llama.cpp. Pure.

Decides which of llama.cpp's two routes answers: `/completion` for text that is ready to be continued
(raw, or no chat template), `/v1/chat/completions` for messages, where llama.cpp applies the model's own
template and takes tool calls and thinking out of the answer. The body is one that `bodies.py` checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from supervisor.engines.embedded.failures import BAD_REQUEST, INTERNAL, ApiError
from supervisor.engines.embedded.options import sampling
from supervisor.models.facts import ModelFacts

_MOST_LOGPROBS: Final = 20
_THINK_LEVELS: Final = ("high", "medium", "low", "max")
_ANY_OBJECT: Final = {"type": "object"}

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt that is sent as it is; token ids where it had to be cut."""

    prompt: str | tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages for the model's template."""

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] = ()
    template_values: Mapping[str, Any]
    after: tuple[int, ...] = ()
    """Tokens of an earlier answer that come before (`context` of generate)."""

    def template_body(self) -> dict[str, Any]:
        """Return what /apply-template takes."""
        body: dict[str, Any] = {"messages": list(self.messages)}
        if self.tools:
            body["tools"] = list(self.tools)
        if self.template_values:
            body["chat_template_kwargs"] = dict(self.template_values)
        return body

    def without_oldest(self, count: int) -> Conversation:
        """Return it without its first `count` messages, except those of the system."""
        kept = [m for m in self.messages[:count] if m.get("role") == "system"]
        return replace(self, messages=(*kept, *self.messages[count:]))


Prompt = Text | Conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One answer to compute."""

    prompt: Prompt
    parameters: Mapping[str, Any]
    """Sampling, the limit of the answer, and its format."""
    truncate: bool
    """Cut a prompt that is too long instead of refusing it."""
    keep: int
    """Tokens at the start of the prompt that a cut spares."""
    logprobs: int
    """How many alternatives to ask for at each token; 0 for none."""

    def request(self) -> tuple[str, dict[str, Any]]:
        """Return the route and body for llama.cpp."""
        match self.prompt:
            case Text(prompt):
                text = prompt if isinstance(prompt, str) else list(prompt)
                body = {**self.parameters, "prompt": text}
                return "/completion", body | ({"n_probs": self.logprobs} if self.logprobs else {})
            case Conversation():
                body = {**self.parameters, **self.prompt.template_body()}
                body["max_tokens"] = self.parameters["n_predict"]
                wanted = {"logprobs": True, "top_logprobs": self.logprobs} if self.logprobs else {}
                return "/v1/chat/completions", body | wanted


def check_top_logprobs(body: Mapping[str, Any]) -> None:
    """Raise Ollama's 400 unless `top_logprobs` is within 0 to 20."""
    if not 0 <= body.get("top_logprobs", 0) <= _MOST_LOGPROBS:
        raise ApiError(BAD_REQUEST, "top_logprobs must be between 0 and 20")


def check_generate(body: Mapping[str, Any]) -> None:
    """Raise Ollama's 400 for fields that contradict each other."""
    if body.get("raw") and any(body.get(name) for name in ("template", "system", "context")):
        raise ApiError(BAD_REQUEST, "raw mode does not support template, system, or context")
    if body.get("template"):
        text = "template: Go templates are not supported here; the model's own template is used"
        raise ApiError(BAD_REQUEST, text)


def check_think(body: Mapping[str, Any], facts: ModelFacts) -> None:
    """Raise Ollama's 400 for a value that is none, and for thinking of a model that cannot."""
    think = body.get("think")
    if think is None or think is False:
        return
    if think is not True and think not in _THINK_LEVELS:
        levels = '"high", "medium", "low", "max", true, or false'
        raise ApiError(BAD_REQUEST, f"invalid think value: {json.dumps(think)} (must be {levels})")
    if "thinking" not in facts.capabilities:
        raise ApiError(BAD_REQUEST, f'"{body.get("model", "")}" does not support thinking')


def generate_job(
    body: Mapping[str, Any], options: Mapping[str, Any], facts: ModelFacts, *, context_length: int
) -> Job:
    """Return the job of an /api/generate request.

    Raises:
        ApiError: the format or the context is invalid.
    """
    prompt: Prompt
    if body.get("raw") or not facts.chat_template:
        prompt = Text(body.get("prompt", ""))
    else:
        system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
        prompt = Conversation(
            messages=(*system, {"role": "user", "content": body.get("prompt", "")}),
            template_values=_template_values(body, facts),
            after=_known_tokens(body.get("context", ()), facts),
        )
    return _job(prompt, body, options, context_length)


def chat_job(
    body: Mapping[str, Any], options: Mapping[str, Any], facts: ModelFacts, *, context_length: int
) -> Job:
    """Return the job of an /api/chat request.

    Raises:
        ApiError: the format is invalid.
    """
    conversation = Conversation(
        messages=tuple(_message(m) for m in body.get("messages", ())),
        tools=tuple(body.get("tools", ())),
        template_values=_template_values(body, facts),
    )
    return _job(conversation, body, options, context_length)


def _job(prompt: Prompt, body: Mapping[str, Any], options: Mapping[str, Any], context_length: int) -> Job:
    parameters = sampling(options, context_length=context_length)
    return Job(
        prompt=prompt,
        parameters=parameters | _format(body.get("format")),
        truncate=body.get("truncate", True),
        keep=parameters["n_keep"],
        logprobs=max(1, body.get("top_logprobs", 0)) if body.get("logprobs") else 0,
    )


def _format(value: Any) -> dict[str, Any]:  # noqa: ANN401 -- any JSON
    if value is None or value == "":
        return {}
    if value == "json":
        return {"json_schema": _ANY_OBJECT}
    if isinstance(value, dict):
        return {"json_schema": value}
    got = json.dumps(json.dumps(value))
    raise ApiError(INTERNAL, f'invalid format: {got}; expected "json" or a valid JSON Schema object')


def _template_values(body: Mapping[str, Any], facts: ModelFacts) -> dict[str, Any]:
    if "thinking" not in facts.capabilities:
        return {}
    return {"enable_thinking": body.get("think", True) is not False}


def _known_tokens(context: Sequence[int], facts: ModelFacts) -> tuple[int, ...]:
    """Refuse tokens that are none: they would end the process that detokenizes them."""
    unknown = [token for token in context if not 0 <= token < facts.vocabulary_size]
    if unknown:
        last = facts.vocabulary_size - 1
        raise ApiError(BAD_REQUEST, f"context: {unknown[0]} is no token of this model (0 to {last})")
    return tuple(context)


def _message(message: Message) -> dict[str, Any]:
    """Return a message in OpenAI's shape, as llama.cpp's templates expect it. Images are left out."""
    told: dict[str, Any] = {"role": message.get("role", ""), "content": message.get("content", "")}
    if calls := message.get("tool_calls"):
        told["tool_calls"] = [_call(call) for call in calls if isinstance(call, dict)]
    for ours, theirs in (("tool_name", "name"), ("tool_call_id",) * 2, ("thinking", "reasoning_content")):
        if message.get(ours):
            told[theirs] = message[ours]
    return told


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    arguments = function.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    named = {"name": function.get("name", ""), "arguments": text}
    return {"type": "function", "id": call.get("id", ""), "function": named}
