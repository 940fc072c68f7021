"""Carries a job out on a runner: its events, and what to do with a prompt that is too long.

As Ollama does: the oldest messages go first, never those of the system nor the last one; what is still
too long is cut in the middle, after the first `keep` tokens. llama.cpp needs one token of the context
for the answer, so one token less than in Ollama is left of such a prompt.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from supervisor.engines.embedded.answers import Calls, Reading, Thoughts
from supervisor.engines.embedded.events import End, Event, Piece, Reader
from supervisor.engines.embedded.failures import BAD_REQUEST, INPUT_TOO_LONG, ApiError, RunnerLostError
from supervisor.engines.embedded.prompts import Conversation, Job, Prompt, Templated, Text
from supervisor.engines.embedded.stops import held_back
from supervisor.engines.embedded.upstream import PromptOverflowError, Upstream
from supervisor.models.prompt_tags import tool_mark


async def answer(upstream: Upstream, job: Job, *, context_length: int) -> AsyncGenerator[Event]:
    """Yield the events of an answer; the last one is its `End`.

    Raises:
        ApiError: the runner refuses, or it or the connection to it is lost.
    """
    asked, job = job, await _resumed(upstream, job)
    try:
        fitting = await _within(upstream, job, context_length)
        async with aclosing(_events(upstream, fitting, _reading(asked))) as events:
            async for event in events:
                yield event
    except PromptOverflowError as error:
        if not job.truncate:
            raise ApiError(BAD_REQUEST, INPUT_TOO_LONG) from error
    else:
        return
    shorter = await _within(upstream, await _shortened(upstream, job, context_length - 1), context_length)
    async with aclosing(_events(upstream, shorter, _reading(asked))) as events:
        async for event in events:
            yield event


async def context_tokens(upstream: Upstream, job: Job, text: str) -> tuple[int, ...]:
    """Return prompt and answer as tokens, for the `context` field of generate."""
    prompt = job.prompt
    if isinstance(prompt, Text) and not isinstance(prompt.prompt, str):
        return (*prompt.prompt, *await _tokens(upstream, text))
    return await _tokens(upstream, await rendered_text(upstream, job) + text)


async def rendered_text(upstream: Upstream, job: Job) -> str:
    """Return the prompt as text.

    Raises:
        ApiError: its template cannot be rendered.
    """
    if not isinstance(job.prompt, Text):
        return await _rendered(upstream, job.prompt)
    assert isinstance(job.prompt.prompt, str)
    return job.prompt.prompt


async def prompt_length(upstream: Upstream, job: Job) -> int:
    """Return the tokens of the prompt.

    Raises:
        ApiError: its template cannot be rendered.
    """
    if isinstance(job.prompt, Text) and not isinstance(job.prompt.prompt, str):
        return len(job.prompt.prompt)
    return len(await _tokens(upstream, await rendered_text(upstream, job)))


async def _events(upstream: Upstream, job: Job, reading: Reading) -> AsyncGenerator[Event]:
    reader = Reader(job.stops)
    path, body = job.request()
    async with aclosing(upstream.stream(path, body)) as items:
        async for item in items:
            for told in reader.read(item):
                if isinstance(told, End) and told.held:
                    for event in reading.read(Piece(content=await _held_text(upstream, job, told.held))):
                        yield event
                for event in reading.read(told):
                    yield event
                if isinstance(told, End):
                    return
    raise RunnerLostError


async def _held_text(upstream: Upstream, job: Job, tokens: tuple[int, ...]) -> str:
    """Return the text that llama.cpp held back; tokens without a text are not meant."""
    text = await _text(upstream, tokens)
    return text if held_back(text, job.parameters["stop"]) else ""


async def _resumed(upstream: Upstream, job: Job) -> Job:
    """Put the tokens of an earlier answer before the new prompt."""
    if isinstance(job.prompt, Text) or not job.prompt.after:
        return job
    return replace(job, prompt=Text(await _rendered(upstream, job.prompt)))


async def _within(upstream: Upstream, job: Job, context_length: int) -> Job:
    """Let an answer that must not shift the context end when it is full."""
    if job.shift:
        return job
    room = max(1, context_length - await prompt_length(upstream, job) + 1)
    limit = min(room, job.parameters["n_predict"])
    return replace(job, parameters={**job.parameters, "n_predict": limit})


def _reading(job: Job) -> Reading:
    """Return what takes the answer apart; llama.cpp has done it where it applied the template itself.

    The job is that of the request: what became of its prompt since then changes nothing of the answer's form.
    """
    reading = Reading(lambda: f"call_{secrets.token_hex(4)}")
    opening, closing = job.thinking
    if opening and not job.has_format:
        reading.thoughts = Thoughts(opening, closing)
        if _prompt_text(job.prompt).strip().endswith(opening):
            reading.thoughts.add(opening)
    if job.tools and isinstance(job.prompt, Templated):
        reading.calls = Calls(tool_mark(job.prompt.template.tree), job.tools)
    return reading


def _prompt_text(prompt: Prompt) -> str:
    """Return what the model goes on from, where that is known here."""
    match prompt:
        case Text(str(text)):
            return text
        case Templated():
            return prompt.text
    return ""


async def _shortened(upstream: Upstream, job: Job, limit: int) -> Job:
    prompt = job.prompt
    if not isinstance(prompt, Text):
        prompt = await _fewer_messages(upstream, prompt, limit)
        tokens = await _tokens(upstream, await _rendered(upstream, prompt))
    elif isinstance(prompt.prompt, str):
        tokens = await _tokens(upstream, prompt.prompt)
    else:
        tokens = prompt.prompt
    return replace(job, prompt=prompt if len(tokens) <= limit else Text(cut(tokens, job.keep, limit)))


async def _fewer_messages(
    upstream: Upstream, prompt: Conversation | Templated, limit: int
) -> Conversation | Templated:
    """Return it with the fewest of its oldest messages left out; bisected, as each try renders all."""
    least, most = 0, len(prompt.messages) - 1
    while least < most:
        middle = (least + most) // 2
        tokens = await _tokens(upstream, await _rendered(upstream, prompt.without_oldest(middle)))
        least, most = (least, middle) if len(tokens) <= limit else (middle + 1, most)
    return prompt.without_oldest(least)


def cut(tokens: tuple[int, ...], keep: int, limit: int) -> tuple[int, ...]:
    """Return at most `limit` tokens: the first `keep` and then the last ones."""
    kept = min(len(tokens) if keep < 0 else keep, limit - 1)
    return (*tokens[:kept], *tokens[len(tokens) - (limit - kept) :])


async def _rendered(upstream: Upstream, prompt: Conversation | Templated) -> str:
    before = await _text(upstream, prompt.after) if prompt.after else ""
    if isinstance(prompt, Templated):
        return before + prompt.text
    answer = await upstream.call("/apply-template", prompt.template_body())
    return before + str(answer["prompt"])


async def _tokens(upstream: Upstream, text: str) -> tuple[int, ...]:
    body = {"content": text, "add_special": True, "parse_special": True}
    return tuple((await upstream.call("/tokenize", body))["tokens"])


async def _text(upstream: Upstream, tokens: tuple[int, ...]) -> str:
    return str((await upstream.call("/detokenize", {"tokens": list(tokens)}))["content"])
