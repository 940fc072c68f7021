"""What must be asked of another worker so that it goes on with an answer that broke off. Pure.

An answer goes on as text: the prompt as the model's template renders it, and behind it what the client has
got of the answer. Only Ollama's own API takes such a text as it is, so requests of the other surfaces are
said in its words here, option by option as its engines do. What cannot go on exactly is refused with the
reason: the client then gets the honest error. Knows no worker and no frame of an answer.

Source: Ollama 0.24 `openai/openai.go` and `anthropic/anthropic.go`; the embedded engine does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.surfaces.surface import read_object, with_known_keys

Body = Mapping[str, Any]


class CannotContinueError(Exception):
    """This answer cannot go on elsewhere; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A request in the words of Ollama's own API, taken apart."""

    route: str
    """Which of its routes renders the prompt."""
    question: Body
    """What that route is asked."""
    options: Body
    """How the answer is computed, its limit included."""
    prompt: str | None = None
    """The whole prompt, where it needs no rendering."""
    thinks: bool | None = None
    """Whether the model is to think first; None leaves it to the model."""
    tells_context: bool = False
    """The last frame has prompt and answer as tokens."""
    include_usage: bool = False
    """The client wants a frame with counts at the end of the stream."""
    shift: bool | None = None

    @property
    def limit(self) -> int | None:
        """How many tokens the answer may have; None when the request does not say."""
        limit = self.options.get("num_predict")
        return int(limit) if isinstance(limit, (int, float)) else None

    def rendering(self) -> dict[str, Any]:
        """Return the body that has a worker tell the prompt and compute nothing.

        The limit is for servers so old that they would answer instead.
        """
        options = {**self.options, "num_predict": 1}
        return {**self.question, "stream": False, "_debug_render_only": True, "options": options}

    def continuing(self, model: str, text: str, limit: int | None) -> dict[str, Any]:
        """Return the body of /api/generate that goes on behind a text.

        A text that fills the context is refused by the worker rather than cut. Where the client expects
        prompt and answer as tokens a template that is nothing but the prompt does what `raw` does, and tells
        them; `context` keeps a Modelfile's own messages out.
        """
        options = dict(self.options) if limit is None else {**self.options, "num_predict": limit}
        plain = {"template": "{{ .Prompt }}", "context": []} if self.tells_context else {"raw": True}
        shift = {} if self.shift is None else {"shift": self.shift}
        body = {"model": model, "prompt": text, "stream": True, "truncate": False, "think": False}
        return {**body, **plain, **shift, "options": options}


_REFUSED: Final[Mapping[str, str]] = {
    "tools": "the model may call tools",
    "functions": "the model may call functions",
    "format": "the answer is held to a format",
    "logprobs": "the answer tells log probabilities",
    "top_logprobs": "the answer tells log probabilities",
    "images": "the prompt has images",
    "stop_sequences": "which stop sequence ends the answer could not be told",
}
"""Fields of a request of any surface with which an answer cannot go on, and why."""
_FREE_FORMATS: Final = frozenset({"", "text"})
_CHAT_OPTIONS: Final = ("temperature", "seed", "frequency_penalty", "presence_penalty", "top_p")
_MESSAGES_OPTIONS: Final = ("temperature", "top_p", "top_k")
_MORE_THAN_TEXT: Final = ("tool_calls", "tool_call_id", "reasoning", "function_call")


def read_task(route: str, body: bytes, *, sent_tokens: int = 0) -> Task:
    """Return what a request asks; `sent_tokens` is how much of its answer was sent.

    Raises:
        CannotContinueError: an answer to it cannot go on elsewhere.
    """
    read = _READERS.get(route)
    if read is None:
        raise CannotContinueError(f"answers of {route} cannot go on")
    request = with_known_keys(read_object(body))
    _check(request)
    return read(_Request(request, sent_tokens))


def _check(request: Body) -> None:
    for name, why in _REFUSED.items():
        if request.get(name):
            raise CannotContinueError(why)
    form = request.get("response_format")
    if isinstance(form, dict) and str(form.get("type", "")).strip().lower() not in _FREE_FORMATS:
        raise CannotContinueError(_REFUSED["format"])
    choices = request.get("n")
    if isinstance(choices, int) and choices > 1:
        raise CannotContinueError("several answers were asked for")


@dataclass(frozen=True, slots=True)
class _Request:
    body: Body
    sent_tokens: int


def _native(route: str, request: _Request, prompt: str | None, *, tells_context: bool) -> Task:
    body, think = request.body, request.body.get("think")
    return Task(
        route=route,
        question={name: value for name, value in body.items() if name not in ("stream", "options")},
        options=body.get("options") or {},
        prompt=prompt,
        thinks=None if think is None else bool(think),
        tells_context=tells_context,
        shift=body.get("shift"),
    )


def _native_chat(request: _Request) -> Task:
    messages = request.body.get("messages") or ()
    if any(isinstance(message, dict) and message.get("images") for message in messages):
        raise CannotContinueError(_REFUSED["images"])
    return _native("/api/chat", request, None, tells_context=False)


def _native_generate(request: _Request) -> Task:
    raw = bool(request.body.get("raw"))
    prompt = str(request.body.get("prompt") or "") if raw else None
    return _native("/api/generate", request, prompt, tells_context=not raw)


def _openai_chat(request: _Request) -> Task:
    body = request.body
    options = {"temperature": 1.0, "top_p": 1.0} | _given(body, _CHAT_OPTIONS) | _limit(request)
    effort = (body.get("reasoning") or {}).get("effort") or body.get("reasoning_effort")
    thinks = None if not effort else effort != "none"
    messages = [plain for message in body.get("messages") or () for plain in _openai_message(message)]
    question = {"model": body.get("model"), "messages": messages}
    if thinks is not None:
        question["think"] = False if not thinks else effort
    return Task(
        route="/api/chat",
        question=question,
        options=options | _stop(body),
        thinks=thinks,
        include_usage=_wants_usage(body),
    )


def _openai_text(request: _Request) -> Task:
    body = request.body
    options = {"temperature": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0, "top_p": 1.0}
    given = {name: body[name] for name in _CHAT_OPTIONS if body.get(name) is not None}
    if not given.get("top_p", 1.0):  # as Ollama: a completion cannot have 0
        given["top_p"] = 1.0
    prompt = body.get("prompt") or ""
    if not isinstance(prompt, str):
        raise CannotContinueError("the prompt is no text")
    return Task(
        route="/api/generate",
        question={"model": body.get("model"), "prompt": prompt, "suffix": body.get("suffix") or ""},
        options=options | given | _limit(request) | _stop(body),
        include_usage=_wants_usage(body),
    )


def _anthropic(request: _Request) -> Task:
    body = request.body
    kind = (body.get("thinking") or {}).get("type")
    thinks = kind == "enabled" if kind in ("enabled", "disabled") else None
    if thinks is None and (body.get("output_config") or {}).get("effort"):
        thinks = True
    system = "".join(_blocks(body.get("system") or ""))
    messages = [{"role": "system", "content": system}] if system else []
    for message in body.get("messages") or ():
        said = "".join(_blocks(message.get("content") or ""))
        if said:
            messages.append({"role": str(message.get("role", "")).lower(), "content": said})
    question = {"model": body.get("model"), "messages": messages}
    return Task(
        route="/api/chat",
        question=question if thinks is None else {**question, "think": thinks},
        options=_given(body, _MESSAGES_OPTIONS) | _limit(request),
        thinks=thinks,
    )


def _openai_message(message: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 -- any JSON
    """Yield a message for each part of a content, as Ollama does."""
    if not isinstance(message, dict) or any(message.get(name) for name in _MORE_THAN_TEXT):
        raise CannotContinueError("the conversation has more than texts")
    content = message.get("content")
    for text in [content] if isinstance(content, str) else _blocks(content):
        yield {"role": message.get("role", ""), "content": text}


def _blocks(content: Any) -> Iterator[str]:  # noqa: ANN401 -- any JSON
    """Yield the texts of a content that is a text, or a list of blocks that are texts."""
    for block in [{"type": "text", "text": content}] if isinstance(content, str) else content or ():
        text = block.get("text") if isinstance(block, dict) and block.get("type") == "text" else None
        if not isinstance(text, str):
            raise CannotContinueError("the conversation has more than texts")
        yield text


def _given(body: Body, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: body[name] for name in names if body.get(name) is not None}


def _limit(request: _Request) -> dict[str, Any]:
    """Return the limit of the answer; not all servers keep to the newer of its two names."""
    limit, newer = request.body.get("max_tokens"), request.body.get("max_completion_tokens")
    if limit is None and isinstance(newer, int) and newer > request.sent_tokens:
        limit = newer
    return {} if limit is None else {"num_predict": limit}


def _stop(body: Body) -> dict[str, Any]:
    stop = body.get("stop")
    if isinstance(stop, str):
        return {"stop": [stop]}
    return {"stop": [one for one in stop if isinstance(one, str)]} if isinstance(stop, list) else {}


def _wants_usage(body: Body) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))


_READERS: Final[Mapping[str, Callable[[_Request], Task]]] = {
    "/api/chat": _native_chat,
    "/api/generate": _native_generate,
    "/v1/chat/completions": _openai_chat,
    "/v1/completions": _openai_text,
    "/v1/messages": _anthropic,
}
"""The routes whose streams can go on; answers of others are no text, or their parts are numbered."""
