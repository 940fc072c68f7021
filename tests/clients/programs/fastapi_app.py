"""A FastAPI application that asks several questions at once: `ollama.AsyncClient` and `asyncio.gather`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import ollama
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from tests.clients.programs import steps

app = FastAPI()
AT_ONCE = 12


async def chat(model: str) -> str:
    """Return an answer."""
    answer = await ollama.AsyncClient(steps.URL).chat(model, steps.messages(steps.GO))
    return answer.message.content or ""


@app.get("/one/{model}")
async def one(model: str) -> str:
    """Answer one question."""
    return await chat(model)


@app.get("/many/{model}")
async def many(model: str) -> list[str]:
    """Answer several at once."""
    return await asyncio.gather(*(chat(model) for _ in range(AT_ONCE)))


@app.get("/stream/{model}")
async def stream(model: str) -> StreamingResponse:
    """Pass an answer on as it comes."""

    async def pieces() -> AsyncIterator[str]:
        parts = await ollama.AsyncClient(steps.URL).chat(model, steps.messages(steps.GO), stream=True)
        async for part in parts:
            yield part.message.content or ""

    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/embed/{model}")
async def embed(model: str) -> Any:
    """Return vectors, made at once."""
    client = ollama.AsyncClient(steps.URL)
    answers = await asyncio.gather(*(client.embed(model, text) for text in steps.TEXTS))
    return [answer.embeddings[0] for answer in answers]


@app.get("/models")
async def models() -> Any:
    """Return the models' names."""
    return [model.model for model in (await ollama.AsyncClient(steps.URL).list()).models]


def get(path: str) -> Any:
    """Ask the application."""

    async def answer() -> Any:
        async with client() as asking:
            return (await asking.get(path)).json()

    return asyncio.run(answer())


def client() -> httpx.AsyncClient:
    """Return a client of the application; what that raises is raised here."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://application", timeout=60)


async def read(model: str, heard: list[str]) -> list[str]:
    """Read what the application passes on (`httpx` would hold it back until its end)."""
    response = await stream(model)
    async for piece in response.body_iterator:
        heard.append(str(piece))
        if model == steps.LONG and len(heard) == 1:
            steps.begun()
    return heard


steps.run(
    {
        "chat": lambda: get(f"/one/{steps.FIVE}"),
        "gather": lambda: get(f"/many/{steps.FIVE}"),
        "stream": lambda: asyncio.run(read(steps.FIVE, [])),
        "embed": lambda: get(f"/embed/{steps.EMBED}"),
        "models": lambda: get("/models"),
        "unknown": lambda: get(f"/one/{steps.UNKNOWN}"),
        "killed": lambda: asyncio.run(read(steps.LONG, [])),
    }
)
