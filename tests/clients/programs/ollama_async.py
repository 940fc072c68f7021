"""The `ollama` package, asynchronous."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import ollama

from tests.clients.programs import steps


async def chat(model: str, **more: Any) -> Any:
    """Return the message of an answer in one piece."""
    return (await ollama.AsyncClient(steps.URL).chat(model, steps.messages(steps.GO), **more)).message


async def text(model: str, **more: Any) -> str:
    """Return its text."""
    answer: str = (await chat(model, **more)).content
    return answer


async def streamed(model: str) -> AsyncIterator[str | None]:
    """Yield the pieces of an answer."""
    parts = await ollama.AsyncClient(steps.URL).chat(model, steps.messages(steps.GO), stream=True)
    async for part in parts:
        yield part.message.content


async def pieces(model: str) -> list[str | None]:
    """Return them."""
    return [piece async for piece in streamed(model)]


async def killed() -> str:
    """Read a long answer."""
    return await steps.until_the_end_async(streamed(steps.LONG))


async def tools() -> dict[str, Any]:
    """Let the model call a tool, give it the result, and hear what it says then."""
    client = ollama.AsyncClient(steps.URL)
    question = steps.messages(steps.QUESTION)
    asked = (await client.chat(steps.CALLER, question, tools=[steps.TOOL])).message
    call = (asked.tool_calls or [])[0].function
    result = {"role": "tool", "content": "5", "tool_name": "add"}
    answer = (await client.chat(steps.CALLER, [*question, asked, result], tools=[steps.TOOL])).message
    return {"name": call.name, "arguments": call.arguments, "answer": answer.content}


async def embed() -> Any:
    """Return a vector for each text."""
    return (await ollama.AsyncClient(steps.URL).embed(steps.EMBED, steps.TEXTS)).embeddings


async def models() -> list[str | None]:
    """Return the models' names."""
    return [model.model for model in (await ollama.AsyncClient(steps.URL).list()).models]


def step(function: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], Any]:
    """Return a step that runs it in an event loop of its own."""
    return lambda: asyncio.run(function())


steps.run(
    {
        "chat": step(lambda: text(steps.FIVE)),
        "stream": step(lambda: pieces(steps.FIVE)),
        "json": step(lambda: text(steps.JSON, format=steps.SCHEMA)),
        "tools": step(tools),
        "embed": step(embed),
        "models": step(models),
        "unknown": step(lambda: text(steps.UNKNOWN)),
        "killed": step(killed),
    }
)
