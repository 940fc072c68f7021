"""Real clients: aiohttp as a program without a library uses it, and `ollama`, `openai` and `anthropic`.

Asks and notes what the client saw; judges nothing. No client retries by itself, or it would hide what is
looked for. Each has two pools of connections: one keeps them, one opens a connection for each request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final, Self

import aiohttp
import anthropic
import httpx
import ollama
import openai

from scripts.figures.chaos.answers import Reader
from scripts.figures.chaos.asks import Ask, Call, Client, body, messages, options, prompt
from scripts.figures.chaos.troubles import HTTP_OF_ANTHROPIC, HTTP_OF_OPENAI, TROUBLES, note_trouble
from scripts.figures.chaos.verdicts import Seen, Trouble

_OK: Final = 200
_SMALL_BUFFER_BYTES: Final = 4096
_asked: ContextVar[Seen] = ContextVar("asked")
"""What the current task's request has seen so far, for the hooks of the libraries."""


class LeftError(Exception):
    """The client goes away, as it meant to."""


class Clients:
    """All clients of a run."""

    def __init__(self, url: str, *, patience_s: float) -> None:
        """`patience_s` is the clients' own timeout, longer than Corral's deadline."""
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=patience_s)
        self._raw = {fresh: self._session(fresh=fresh) for fresh in (False, True)}
        self._ollama = {fresh: _ollama(url, patience_s, fresh=fresh) for fresh in (False, True)}
        self._openai: dict[bool, Any] = {
            fresh: openai.AsyncOpenAI(
                base_url=f"{url}/v1",
                api_key="none",
                max_retries=0,
                http_client=openai.DefaultAsyncHttpxClient(
                    **_of_httpx(patience_s, HTTP_OF_OPENAI.Limits, fresh=fresh)
                ),
            )
            for fresh in (False, True)
        }
        self._anthropic: dict[bool, Any] = {
            fresh: anthropic.AsyncAnthropic(
                base_url=url,
                api_key="none",
                max_retries=0,
                http_client=anthropic.DefaultAsyncHttpxClient(
                    **_of_httpx(patience_s, HTTP_OF_ANTHROPIC.Limits, fresh=fresh)
                ),
            )
            for fresh in (False, True)
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._raw.values():
            await session.close()
        for library in (*self._openai.values(), *self._anthropic.values()):
            await library.close()
        for client in self._ollama.values():
            await client.close()  # type: ignore[no-untyped-call]  # the library left it bare

    async def ask(self, ask: Ask) -> Seen:
        """Make one request and return what came of it, whatever that is."""
        seen = Seen(ask=ask, started_at=time.time())
        _asked.set(seen)
        try:
            async with asyncio.timeout(ask.leaves_after_s):
                await self._ask(seen)
        except LeftError:
            seen.left = True
        except TROUBLES as error:
            if isinstance(error, TimeoutError) and ask.leaves_after_s is not None:
                seen.left = True
            else:
                note_trouble(seen, error)
        seen.ended_at = time.time()
        return seen

    async def post(self, path: str, what: dict[str, Any], *, method: str = "POST") -> tuple[int, str]:
        """Make a request that is no inference; return status and text."""
        async with self._raw[True].request(method, self._url + path, json=what) as response:
            return response.status, await response.text()

    async def _ask(self, seen: Seen) -> None:
        match seen.ask.client:
            case Client.RAW:
                await self._by_aiohttp(seen)
            case Client.OLLAMA:
                await _by_ollama(self._ollama[seen.ask.fresh], seen)
            case Client.OPENAI:
                await _by_openai(self._openai[seen.ask.fresh], seen)
            case Client.ANTHROPIC:
                await _by_anthropic(self._anthropic[seen.ask.fresh], seen)

    async def _by_aiohttp(self, seen: Seen) -> None:
        ask, session = seen.ask, self._raw[seen.ask.fresh]
        reader = Reader(ask)
        size = _SMALL_BUFFER_BYTES if ask.pause_s else 2**16
        async with session.post(
            self._url + ask.call, json=body(ask), headers={"X-Request-Id": ask.id}, read_bufsize=size
        ) as response:
            if response.status != _OK:
                seen.trouble, seen.status = Trouble.STATUS, response.status
                seen.error = await response.text()
                return
            seen.first_at = time.time()
            async for chunk in response.content.iter_any():
                reader.feed(chunk)
                _heard(seen, reader.answer.text)
                await asyncio.sleep(ask.pause_s)
            reader.end()
        _heard(seen, reader.answer.text)
        seen.vector, seen.whole = reader.answer.vector, reader.answer.whole
        if reader.answer.error:
            seen.trouble, seen.error = Trouble.FRAME, reader.answer.error

    def _session(self, *, fresh: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, force_close=fresh)
        return aiohttp.ClientSession(connector=connector, timeout=self._timeout, trust_env=False)


def _ollama(url: str, patience_s: float, *, fresh: bool) -> ollama.AsyncClient:
    return ollama.AsyncClient(url, **_of_httpx(patience_s, httpx.Limits, fresh=fresh))


def _of_httpx(patience_s: float, limits: Callable[..., Any], *, fresh: bool) -> dict[str, Any]:
    return {
        "timeout": patience_s,
        "limits": limits(max_connections=None, max_keepalive_connections=0 if fresh else None),
        "event_hooks": {"request": [_name], "response": [_begun]},
        "trust_env": False,
        "verify": False,
    }


async def _name(request: httpx.Request) -> None:
    request.headers["X-Request-Id"] = _asked.get().ask.id


async def _begun(response: httpx.Response) -> None:
    if response.status_code == _OK:
        _asked.get().first_at = time.time()


def _heard(seen: Seen, text: str) -> None:
    """Note the answer so far.

    Raises:
        LeftError: the client wants no more.
    """
    seen.text = text
    enough = seen.ask.leaves_after_words
    if enough is not None and len(text.split()) >= enough:
        raise LeftError


async def _by_ollama(client: ollama.AsyncClient, seen: Seen) -> None:
    ask = seen.ask
    if ask.call is Call.EMBED:
        seen.vector = list((await client.embed(ask.model, ask.text)).embeddings[0])
        seen.whole = True
        return
    chats = ask.call is Call.CHAT
    asked: Any = (
        client.chat(ask.model, messages(), stream=ask.streamed, options=options(ask))  # type: ignore[call-overload]
        if chats
        else client.generate(ask.model, prompt(ask), raw=True, stream=ask.streamed, options=options(ask))  # type: ignore[call-overload]
    )
    answer = await asked
    if not ask.streamed:
        seen.text, seen.whole = answer.message.content if chats else answer.response, bool(answer.done)
        return
    async with _closed(answer):
        async for part in answer:
            seen.whole = bool(part.done)
            _heard(seen, seen.text + ((part.message.content if chats else part.response) or ""))


async def _by_openai(client: Any, seen: Seen) -> None:  # noqa: ANN401 -- overloads of no use here
    ask = seen.ask
    if ask.call is Call.EMBEDDING:
        seen.vector = (await client.embeddings.create(model=ask.model, input=ask.text)).data[0].embedding
        seen.whole = True
        return
    told = {
        "model": ask.model,
        "max_tokens": ask.words,
        "temperature": 0,
        "stream": ask.streamed,
    }
    if ask.call is Call.COMPLETION:
        answer = await client.completions.create(prompt="go", **told)
        await _openai_answer(seen, answer, lambda choice: choice.text)
        return
    answer = await client.chat.completions.create(messages=messages(), **told)
    await _openai_answer(
        seen, answer, lambda choice: (choice.delta if ask.streamed else choice.message).content
    )


async def _openai_answer(seen: Seen, answer: Any, text_of: Callable[[Any], str | None]) -> None:  # noqa: ANN401
    """Read it; the library hides a stream's last frame, so the reason why it ended counts."""
    if not seen.ask.streamed:
        seen.text, seen.whole = text_of(answer.choices[0]) or "", True
        return
    async with answer:
        async for chunk in answer:
            for choice in chunk.choices:
                seen.whole = seen.whole or choice.finish_reason is not None
                _heard(seen, seen.text + (text_of(choice) or ""))


async def _by_anthropic(client: Any, seen: Seen) -> None:  # noqa: ANN401 -- overloads of no use here
    ask = seen.ask
    told = {"model": ask.model, "messages": messages(), "max_tokens": ask.words}
    if not ask.streamed:
        answer = await client.messages.create(**told)
        seen.text, seen.whole = "".join(block.text for block in answer.content), True
        return
    async with client.messages.stream(**told) as stream:
        async for event in stream:
            seen.whole = event.type == "message_stop"
            if event.type == "text":
                _heard(seen, seen.text + event.text)


@asynccontextmanager
async def _closed(stream: Any) -> AsyncIterator[None]:  # noqa: ANN401 -- an async generator
    """Close a generator with its connection, as its end by chance of the collector would be too late."""
    try:
        yield
    finally:
        await stream.aclose()
