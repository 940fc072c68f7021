"""A native request body as a request to llama.cpp. Pure.

Decides which of llama.cpp's two routes answers: `/completion` for text that is ready to be continued
(raw, rendered with the template of a store, or no chat template), `/v1/chat/completions` for messages,
where llama.cpp applies the template of the GGUF file and takes tool calls and thinking out of the answer.
The body is one that `bodies.py` checked; time and chance are arguments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

from supervisor.engines.embedded.answers import Thoughts
from supervisor.engines.embedded.failures import BAD_REQUEST, INTERNAL, ApiError
from supervisor.engines.embedded.json_schemas import InvalidSchemaError, grammar_schema
from supervisor.engines.embedded.options import sampling
from supervisor.models.facts import ModelFacts
from supervisor.models.gotemplate.lexer import TemplateError
from supervisor.models.model import ModelFile
from supervisor.models.modelfile import Modelfile
from supervisor.models.prompt_tags import thinking_marks
from supervisor.models.prompt_template import PromptTemplate, Turn

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
        last = self.messages[-1] if self.messages else {}
        if last.get("role") == "assistant" and not last.get("tool_calls"):
            # llama.cpp would do so by itself, but then it refuses two such messages at the end.
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body

    def without_oldest(self, count: int) -> Conversation:
        """Return it without its first `count` messages, except those of the system."""
        return replace(self, messages=_without_oldest(self.messages, count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Templated:
    """Messages for the template of a store, or of a request."""

    template: PromptTemplate
    turn: Turn
    after: tuple[int, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation."""
        return self.turn.messages

    @property
    def text(self) -> str:
        """The prompt.

        Raises:
            ApiError: 500, the template cannot be rendered; the text names the construct.
        """
        try:
            return self.template.render(self.turn)
        except TemplateError as error:
            raise ApiError(INTERNAL, f"template: {error}") from error

    def without_oldest(self, count: int) -> Templated:
        """Return it without its first `count` messages, except those of the system."""
        return replace(self, turn=replace(self.turn, messages=_without_oldest(self.messages, count)))


Prompt = Text | Conversation | Templated


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
    shift: bool = True
    """Go on when the context is full, without its oldest tokens."""
    tools: tuple[str, ...] = ()
    """Names of the tools that the answer may call, where it is read here (see `answers.py`)."""
    thinking: tuple[str, str] = ("", "")
    """What stands around the thoughts in the answer, where they are taken out here."""

    @property
    def has_format(self) -> bool:
        """The answer is held to a JSON schema."""
        return "json_schema" in self.parameters

    @property
    def stops(self) -> Sequence[str]:
        """Stop words that are looked for here, because llama.cpp would not tell what it did (`stops.py`)."""
        return self.parameters["stop"] if isinstance(self.prompt, Conversation) else ()

    def request(self) -> tuple[str, dict[str, Any]]:
        """Return the route and body for llama.cpp."""
        match self.prompt:
            case Text(prompt):
                text = prompt if isinstance(prompt, str) else list(prompt)
                body = {**self.parameters, "prompt": text}
                return "/completion", body | ({"n_probs": self.logprobs} if self.logprobs else {})
            case Templated():
                return replace(self, prompt=Text(self.prompt.text)).request()
            case Conversation():
                body = {**self.parameters, **self.prompt.template_body()}
                body["max_tokens"] = self.parameters["n_predict"]
                if self.stops:
                    body |= {"stop": [], "timings_per_token": True}
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


def check_think(body: Mapping[str, Any], model: ModelFile) -> None:
    """Raise Ollama's 400 for a value that is none, and for thinking of a model that cannot."""
    think = body.get("think")
    if think is None or think is False:
        return
    levels = '"high", "medium", "low", "max", true, or false'
    if not isinstance(think, (bool, str)):
        raise ApiError(BAD_REQUEST, f"think must be a boolean or string ({levels})")
    if think is not True and think not in _THINK_LEVELS:
        raise ApiError(BAD_REQUEST, f"invalid think value: {json.dumps(think)} (must be {levels})")
    if "thinking" not in model.capabilities:
        raise ApiError(BAD_REQUEST, f'"{body.get("model", "")}" does not support thinking')


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a prompt depends on beside the request."""

    model: ModelFile
    context_length: int
    """Tokens of one slot."""
    today: date


def generate_job(body: Mapping[str, Any], options: Mapping[str, Any], setting: Setting) -> Job:
    """Return the job of an /api/generate request.

    Raises:
        ApiError: the format, the context or a template is invalid.
    """
    model = setting.model
    after = _known_tokens(body.get("context", ()), model.facts)
    template = _requested_template(body) or model.template
    prompt: Prompt
    if body.get("raw"):
        prompt = Text(body.get("prompt", ""))
    elif template is not None:
        prompt = Templated(template=template, turn=_generate_turn(body, setting), after=after)
    elif model.facts.chat_template:
        messages = tuple(_message(m) for m in _generate_messages(body, model))
        prompt = Conversation(messages=messages, template_values=_template_values(body, model), after=after)
    else:
        prompt = Text(body.get("prompt", ""))
    return replace(_job(prompt, body, options, setting), thinking=_thinking(template, body, model))


def chat_job(body: Mapping[str, Any], options: Mapping[str, Any], setting: Setting) -> Job:
    """Return the job of an /api/chat request.

    Raises:
        ApiError: the format is invalid.
    """
    model, tools = setting.model, body.get("tools")
    messages = _chat_messages(body.get("messages", ()), model)
    prompt: Prompt
    if model.template is not None:
        turn = Turn(
            messages=messages,
            tools=None if tools is None else tuple(tools),
            think=_think(body, model),
            today=setting.today,
        )
        prompt = Templated(template=model.template, turn=turn)
        names = [
            (tool.get("function") or {}).get("name", "") for tool in tools or () if isinstance(tool, dict)
        ]
        thinking = _thinking(model.template, body, model)
        return replace(_job(prompt, body, options, setting), tools=tuple(names), thinking=thinking)
    prompt = Conversation(
        messages=tuple(map(_message, messages)),
        tools=tuple(tools or ()),
        template_values=_template_values(body, model),
    )
    return _job(prompt, body, options, setting)


def _requested_template(body: Mapping[str, Any]) -> PromptTemplate | None:
    if not body.get("template"):
        return None
    try:
        return PromptTemplate.parse(body["template"])
    except TemplateError as error:
        raise ApiError(INTERNAL, f"template: {error}") from error


def _generate_turn(body: Mapping[str, Any], setting: Setting) -> Turn:
    think, prompt = _think(body, setting.model), body.get("prompt", "")
    if body.get("suffix"):
        return Turn(prompt=prompt, suffix=body["suffix"], think=think, today=setting.today)
    messages = _generate_messages(body, setting.model)
    tools = None if body.get("template") else ()  # so it is in Ollama; a template may tell them apart
    return Turn(messages=messages, tools=tools, think=think, today=setting.today)


def _generate_messages(body: Mapping[str, Any], model: ModelFile) -> tuple[Message, ...]:
    """Return what generate says as messages: the model's own ones come only before a first request."""
    made = _modelfile(model)
    text = body.get("system") or made.system
    system = [{"role": "system", "content": text}] if text else []
    examples = made.messages if body.get("context") is None else ()
    return (*system, *examples, {"role": "user", "content": body.get("prompt", "")})


def _chat_messages(messages: Sequence[Message], model: ModelFile) -> tuple[Message, ...]:
    """Return the messages with the model's own system text and examples before them."""
    made = _modelfile(model)
    given = [{**message, "role": str(message.get("role", "")).lower()} for message in messages]
    system = [{"role": "system", "content": made.system}] if made.system else []
    if given and given[0]["role"] == "system":
        system = []
    return without_old_thoughts((*system, *made.messages, *given), model)


def without_old_thoughts(messages: tuple[Message, ...], model: ModelFile) -> tuple[Message, ...]:
    """Return the messages without thoughts in earlier answers, for the two families Ollama does it for."""
    families = model.details["family"] == "qwen3" or model.name.model == "deepseek-r1"
    users = [n for n, message in enumerate(messages) if message["role"] == "user"]
    if model.entry is None or not families or not users:
        return messages
    return tuple(
        {**m, "content": Thoughts("<think>", "</think>").add(m.get("content", ""))[1]}
        if m["role"] == "assistant" and n < users[-1]
        else m
        for n, m in enumerate(messages)
    )


def _modelfile(model: ModelFile) -> Modelfile:
    return model.entry.modelfile if model.entry is not None else Modelfile()


def _without_oldest(messages: tuple[Message, ...], count: int) -> tuple[Message, ...]:
    kept = [m for m in messages[:count] if m.get("role") == "system"]
    return (*kept, *messages[count:])


def _think(body: Mapping[str, Any], model: ModelFile) -> bool | str | None:
    """A model that can think does, unless the request says no."""
    said: bool | str | None = body.get("think")
    return True if said is None and "thinking" in model.capabilities else said


def _thinking(template: PromptTemplate | None, body: Mapping[str, Any], model: ModelFile) -> tuple[str, str]:
    """Return the template's marks of thoughts, if the model is to think; also of a raw prompt's answer."""
    return thinking_marks(template.tree) if template is not None and _think(body, model) else ("", "")


def _job(prompt: Prompt, body: Mapping[str, Any], options: Mapping[str, Any], setting: Setting) -> Job:
    parameters = sampling(options, context_length=setting.context_length)
    return Job(
        prompt=prompt,
        parameters=parameters | _format(body.get("format")),
        truncate=body.get("truncate", True),
        shift=body.get("shift", True),
        keep=parameters["n_keep"],
        logprobs=max(1, body.get("top_logprobs", 0)) if body.get("logprobs") else 0,
    )


def _format(value: Any) -> dict[str, Any]:  # noqa: ANN401 -- any JSON
    if value is None or value == "":
        return {}
    if value == "json":
        return {"json_schema": _ANY_OBJECT}
    if isinstance(value, dict):
        try:
            return {"json_schema": grammar_schema(value)}
        except InvalidSchemaError as error:
            raise ApiError(INTERNAL, f"invalid JSON schema in format: {error}") from error
    got = json.dumps(json.dumps(value))
    raise ApiError(INTERNAL, f'invalid format: {got}; expected "json" or a valid JSON Schema object')


def _template_values(body: Mapping[str, Any], model: ModelFile) -> dict[str, Any]:
    if "thinking" not in model.capabilities:
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
