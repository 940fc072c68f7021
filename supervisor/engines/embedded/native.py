"""Ollama's own inference routes: generate, chat, embed, embeddings."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from supervisor.contract import wire
from supervisor.engines.embedded import bodies, structs
from supervisor.engines.embedded.completion import answer, context_tokens, prompt_length, rendered_text
from supervisor.engines.embedded.delivery import deliver
from supervisor.engines.embedded.events import End, Event
from supervisor.engines.embedded.failures import (
    BAD_REQUEST,
    INTERNAL,
    NOT_FOUND,
    ApiError,
)
from supervisor.engines.embedded.frames import Figures, Frame, Framer
from supervisor.engines.embedded.prompts import (
    Job,
    Setting,
    chat_job,
    check_generate,
    check_think,
    check_top_logprobs,
    generate_job,
)
from supervisor.engines.embedded.rendering import Native
from supervisor.engines.embedded.upstream import Upstream
from supervisor.engines.embedded.worker import Worker, keep_alive_of
from supervisor.models.model import ModelFile, StoreEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One generate or chat request, checked."""

    model: ModelFile
    body: Mapping[str, Any]
    chat: bool
    began_ns: int
    tells_more: bool = False
    """See `Framer`."""

    @property
    def empty(self) -> bool:
        """It has no prompt: it loads or unloads."""
        return not self.body.get("messages" if self.chat else "prompt")

    @property
    def framer(self) -> Framer:
        """Makes this answer's frames."""
        return Framer(
            model=self.body.get("model", ""),
            chat=self.chat,
            logprobs=self.body.get("logprobs", False),
            top_logprobs=self.body.get("top_logprobs", 0),
            tells_more=self.tells_more,
        )


def generate_call(worker: Worker, body: Mapping[str, Any]) -> Call:
    """Return the call of a body of generate.

    Raises:
        ApiError: it is refused.
    """
    check_top_logprobs(body)
    model = worker.find(body.get("model", ""))
    if model is None:
        raise ApiError(NOT_FOUND, wire.model_not_found(body.get("model", "")))
    return Call(model=model, body=body, chat=False, began_ns=time.monotonic_ns())


def chat_call(worker: Worker, body: Mapping[str, Any]) -> Call:
    """Return the call of a body of chat.

    Raises:
        ApiError: it is refused.
    """
    check_top_logprobs(body)
    if not body.get("model"):
        raise ApiError(BAD_REQUEST, wire.MODEL_REQUIRED)
    model = worker.find(body["model"])
    if model is None:
        raise ApiError(NOT_FOUND, wire.model_not_found(body["model"]))
    return Call(model=model, body=body, chat=True, began_ns=time.monotonic_ns())


async def answer_frames(worker: Worker, call: Call) -> AsyncGenerator[Frame]:
    """Yield the frames of the answer; holds a slot while it computes.

    Raises:
        ApiError: it is refused, or fails.
    """
    keep_alive_s = keep_alive_of(call.body)
    if call.empty and keep_alive_s == 0:
        worker.unload(call.model)
        yield call.framer.empty("unload", _now())
        return
    _check(call)
    options = worker.options(call.model, call.body)
    context_length = worker.context_length(call.model, options)
    make = chat_job if call.chat else generate_job
    async with worker.lease(call.model, options, keep_alive_s) as runner:
        load_ns = time.monotonic_ns() - call.began_ns
        if call.empty:
            yield call.framer.empty("load", _now())
            return
        job = make(call.body, options, _setting(call, context_length))
        upstream = worker.upstream(runner)
        if call.body.get("_debug_render_only"):
            yield call.framer.rendered(await rendered_text(upstream, job), _now())
            return
        async with aclosing(answer(upstream, job, context_length=context_length)) as events:
            async for frame in _frames(call, job, events, upstream, load_ns):
                yield frame


async def count_prompt(worker: Worker, call: Call) -> int:
    """Return how many tokens the prompt of a chat would have.

    Raises:
        ApiError: it is refused.
    """
    _check(call)
    options = worker.options(call.model, call.body)
    setting = _setting(call, worker.context_length(call.model, options))
    async with worker.lease(call.model, options, None) as runner:
        return await prompt_length(worker.upstream(runner), chat_job(call.body, options, setting))


def _setting(call: Call, context_length: int) -> Setting:
    return Setting(model=call.model, context_length=context_length, today=_now().astimezone().date())


async def _frames(
    call: Call, job: Job, events: AsyncGenerator[Event], upstream: Upstream, load_ns: int
) -> AsyncGenerator[Frame]:
    framer = call.framer
    async for event in events:
        if not isinstance(event, End):
            yield framer.piece(event, _now())
            continue
        if event.tool_calls:
            yield framer.calls(event, _now())
        wants_context = not call.chat and not call.body.get("raw")
        context = await context_tokens(upstream, job, event.text) if wants_context else ()
        total_ns = time.monotonic_ns() - call.began_ns
        yield framer.end(event, Figures(total_ns=total_ns, load_ns=load_ns, context=context), _now())


def _check(call: Call) -> None:
    """Refuse what the model cannot do."""
    model, body = call.model, call.body
    if not call.chat:
        check_generate(body)
    check_think(body, model)
    name = model.name
    full_name = f"{name.host}/{name.namespace}/{name.model}:{name.tag}"
    if model.facts.embeds:
        verb = "chat" if call.chat else "generate"
        raise ApiError(BAD_REQUEST, f'"{body["model"]}" does not support {verb}')
    for wanted, capability in (("tools", "tools"), ("suffix", "insert")):
        if body.get(wanted) and capability not in model.capabilities:
            raise ApiError(BAD_REQUEST, f"{full_name} does not support {capability}")
    if model.entry is not None:
        _check_layers(call, model.entry)


def _check_layers(call: Call, entry: StoreEntry) -> None:
    """Refuse what layers ask for and this engine has not, rather than answer something else."""
    body, messages = call.body, call.body.get("messages", ())
    if entry.problem and not body.get("raw") and not body.get("template") and not call.empty:
        raise ApiError(INTERNAL, entry.problem)
    if entry.modelfile.projectors and (body.get("images") or any(m.get("images") for m in messages)):
        text = f"{call.model.name.short}: this engine cannot see images; use the engine ollama"
        raise ApiError(BAD_REQUEST, text)


class NativeRoutes:
    """Handlers of Ollama's inference routes."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """POST /api/generate."""
        body = bodies.decode(await request.read(), structs.GENERATE)
        frames = answer_frames(self._worker, generate_call(self._worker, body))
        return await deliver(request, frames, Native(), stream=body.get("stream", True))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /api/chat."""
        body = bodies.decode(await request.read(), structs.CHAT)
        frames = answer_frames(self._worker, chat_call(self._worker, body))
        return await deliver(request, frames, Native(), stream=body.get("stream", True))


def _now() -> datetime:
    return datetime.now(UTC)
