"""Reads the bodies of requests: bounded in size, as sent and as decoded, and in the time a client may take.

The server leaves bodies as they come (`auto_decompress=False`), because aiohttp would inflate as much as a
body may have in one go, on the event loop. Decides the limits; what an encoding needs is `encodings.py`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.http.encodings import CorruptBodyError, Decoder, UnsupportedEncodingError, decoder_of
from gateway.surfaces.surface import BadRequestError

PAUSE_S: Final = 60.0
"""A client that sends nothing of its body for so long is given up."""
WHOLE_S: Final = 600.0
"""So long may a whole body take, however steadily it trickles."""


@dataclass(slots=True)
class BodyLimit:
    """How large a body may be; it can change while requests are served."""

    max_bytes: int


BODY_LIMIT: Final = web.AppKey("body_limit", BodyLimit)
"""Under this key an application holds its limit."""


async def read_body(request: web.Request) -> bytes:
    """Return the whole body of a request, decoded; it may have as many bytes as the application's limit.

    Raises:
        BadRequestError: 413 too large, 415 an encoding that is not supported, 408 too slow, 400 broken.
    """
    limit_bytes = request.app[BODY_LIMIT].max_bytes
    if (request.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    try:
        decoder = decoder_of(request.headers.get(hdrs.CONTENT_ENCODING, ""))
        return await _whole(request, decoder, limit_bytes)
    except UnsupportedEncodingError as error:
        raise BadRequestError(str(error), status=415) from error
    except CorruptBodyError as error:
        encoding = request.headers[hdrs.CONTENT_ENCODING]
        raise BadRequestError(f"the request body is no valid {encoding}: {error}") from error
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise BadRequestError(f"the request body is broken: {error}") from error
    except TimeoutError as error:
        raise BadRequestError("the request body came too slowly", status=408) from error


async def _whole(request: web.Request, decoder: Decoder | None, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in _parts(request, decoder):
        size += len(part)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _parts(request: web.Request, decoder: Decoder | None) -> AsyncIterator[bytes]:
    """Yield the decoded body; others get their turn between two pieces of what is inflated."""
    async for chunk in _chunks(request):
        if decoder is None:
            yield chunk
            continue
        for piece in decoder.pieces(chunk):
            yield piece
            await asyncio.sleep(0)
    if decoder is not None:
        decoder.finish()


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body as it is sent."""
    clock = asyncio.get_running_loop().time
    end = clock() + WHOLE_S
    while True:
        async with asyncio.timeout_at(min(end, clock() + PAUSE_S)):
            chunk = await request.content.readany()
        if not chunk:
            return
        yield chunk


def _too_large(limit_bytes: int) -> BadRequestError:
    text = f"the request body is larger than gateway.max_body_size ({limit_bytes} bytes)"
    return BadRequestError(text, status=413)
