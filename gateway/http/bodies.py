"""Reads the bodies of requests: bounded in size, as sent and as decoded, and in the time a client may take.

All that are held together are bounded too, by `body_room.py`.

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

from gateway.http.arrival import BODY
from gateway.http.body_room import HELD, BodyRoom, HeldBody, NoRoomError
from gateway.http.encodings import CorruptBodyError, Decoder, UnsupportedEncodingError, decoder_of
from gateway.surfaces.surface import BadRequestError
from supervisor.contract.config import GatewayConfig
from supervisor.contract.wire import SERVER_BUSY

PAUSE_S: Final = 60.0
"""A client that sends nothing of its body for so long is given up."""
WHOLE_S: Final = 600.0
"""So long may a whole body take, however steadily it trickles."""


_BODIES_HELD: Final = 4
"""So many of the largest are held, unless the operator says how much."""


@dataclass(slots=True)
class BodyLimit:
    """How large a body may be, and all together; both can change while requests are served."""

    max_bytes: int
    room: BodyRoom

    @classmethod
    def of(cls, limits: GatewayConfig) -> BodyLimit:
        """Return what the operator says."""
        return cls(limits.max_body_size, BodyRoom(_room_bytes(limits)))

    def use(self, limits: GatewayConfig) -> None:
        """Go by these from now on."""
        self.max_bytes = limits.max_body_size
        self.room.use(_room_bytes(limits))


BODY_LIMIT: Final = web.AppKey("body_limit", BodyLimit)
"""Under this key an application holds its limit."""


def _room_bytes(limits: GatewayConfig) -> int:
    return _BODIES_HELD * limits.max_body_size if limits.body_memory is None else limits.body_memory


async def read_body(request: web.Request) -> bytes:
    """Return the whole body of a request, decoded; it may have as many bytes as the application's limit.

    It counts as held until `let_go`.

    Raises:
        BadRequestError: 413 too large, 415 an encoding that is not supported, 408 too slow, 400 broken, and
            503 no room beside those of others.
    """
    limit = request.app[BODY_LIMIT]
    if (request.content_length or 0) > limit.max_bytes:
        raise _too_large(limit.max_bytes)
    held = request[HELD] = HeldBody(limit.room)
    try:
        decoder = decoder_of(request.headers.get(hdrs.CONTENT_ENCODING, ""))
        if decoder is None:
            await held.grow(request.content_length or 0)
        return await _whole(request, decoder, held, limit.max_bytes)
    except UnsupportedEncodingError as error:
        raise BadRequestError(str(error), status=415) from error
    except CorruptBodyError as error:
        encoding = request.headers[hdrs.CONTENT_ENCODING]
        raise BadRequestError(f"the request body is no valid {encoding}: {error}") from error
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise BadRequestError(f"the request body is broken: {error}") from error
    except TimeoutError as error:
        raise BadRequestError("the request body came too slowly", status=408) from error
    except NoRoomError as error:
        raise BadRequestError(_no_room(limit.room.most_bytes), status=503) from error


def let_go(request: web.Request) -> None:
    """Forget the body of a request that has ended, however it did."""
    request.pop(BODY, None)
    held = request.pop(HELD, None)
    if held is not None:
        held.shrink(0)


async def _whole(request: web.Request, decoder: Decoder | None, held: HeldBody, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in _parts(request, decoder):
        size += len(part)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        if size > held.size_bytes:
            await held.grow(max(size, min(2 * held.size_bytes, limit_bytes)))
        parts.append(part)
    held.shrink(size)
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


def _no_room(most_bytes: int) -> str:
    return f"{SERVER_BUSY} (the requests under way fill gateway.body_memory, {most_bytes} bytes)"
