"""What the exceptions of client libraries mean for who asked: connect, reset, status, frame or timeout."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, Final

import aiohttp
import anthropic
import httpx
import ollama
import openai

from scripts.figures.chaos.verdicts import Seen, Trouble


def _library_under(client: type) -> ModuleType:
    """Return httpx, or whatever took its place, as an SDK builds upon it."""
    bases = client.__mro__[1:]
    found: Any = import_module(bases[0].__module__.partition(".")[0])
    assert isinstance(found, ModuleType)
    return found


HTTP_OF_OPENAI: Final[Any] = _library_under(openai.DefaultAsyncHttpxClient)
HTTP_OF_ANTHROPIC: Final[Any] = _library_under(anthropic.DefaultAsyncHttpxClient)
_HTTPS: Final[tuple[Any, ...]] = (httpx, HTTP_OF_OPENAI, HTTP_OF_ANTHROPIC)

TROUBLES: Final = (
    aiohttp.ClientError,
    *(library.HTTPError for library in _HTTPS),
    ollama.ResponseError,
    openai.OpenAIError,
    anthropic.AnthropicError,
    OSError,  # TimeoutError and the `ollama` package's ConnectionError among them
    ValueError,  # an answer that is no JSON
    LookupError,  # JSON of another form
)
_CONNECT: Final = (aiohttp.ClientConnectorError, *(library.ConnectError for library in _HTTPS))
_TIMEOUT: Final = (TimeoutError, *(library.TimeoutException for library in _HTTPS))
_RESET: Final = (aiohttp.ClientError, *(library.TransportError for library in _HTTPS), OSError)
_LEAST_ERROR_STATUS: Final = 400


def note_trouble(seen: Seen, error: Exception) -> None:
    """Fill in what an exception says."""
    seen.error = f"{type(error).__name__}: {error}"
    seen.status = _status_of(error)
    seen.trouble = _trouble_of(error, seen.status)


def _status_of(error: Exception) -> int:
    """Return the HTTP status of a refusal, 0 where the answer had begun or none came."""
    status = getattr(error, "status_code", 0)
    return status if isinstance(status, int) and status >= _LEAST_ERROR_STATUS else 0


def _trouble_of(error: Exception, status: int) -> Trouble:
    if status:
        return Trouble.STATUS
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        if not isinstance(cause, Exception):
            break
        chain.append(cause)
    for kind, classes in (
        (Trouble.TIMEOUT, _TIMEOUT),
        (Trouble.CONNECT, _CONNECT),
        (Trouble.RESET, _RESET),
    ):
        if any(isinstance(link, classes) for link in chain):
            return kind
    spoke = isinstance(error, ollama.ResponseError | openai.APIError | anthropic.APIError)
    return Trouble.FRAME if spoke else Trouble.NONSENSE
