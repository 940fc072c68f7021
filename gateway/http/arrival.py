"""How a request came to this gateway: from a client, or from the gateway whose place this one takes.

Decides the wire form of what the old gateway tells of a request that it passes on. It is believed only on a
unix socket, which nobody else can open.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Final

from aiohttp import web

PASSED_ON: Final = "X-Corral-Passed-On"
"""Header of a request that an old gateway passes on."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a request came from, and when."""

    at: float
    """On the event loop's clock: when its head came; once its body is there, when that was. Who sends slowly
    does not come in front of others by it, and loses nothing of its time; `bodies.py` bounds how slowly."""
    address: str
    """Of the client's host."""
    admitted: bool = False
    """It waits already: no queue is too full for it."""

    def whole(self, now: float) -> Arrival:
        """Return the same once the body is there: the wait begins, unless another gateway saw it begin."""
        return self if self.admitted else replace(self, at=now)


ARRIVAL: Final = web.RequestKey("arrival", Arrival)
"""Under this key each request holds how it came."""
BODY: Final = web.RequestKey("body", bytes)
"""Under this key a request that was read holds its body, until the first byte of its answer is there."""


def arrival_of(request: web.BaseRequest, now: float) -> Arrival:
    """Return how the request came."""
    told = request.headers.get(PASSED_ON)
    if told is None or not _by_unix_socket(request):
        return Arrival(now, request.remote or "")
    waited_s, address, admitted = json.loads(told)
    return Arrival(now - waited_s, address, admitted)


def told_of(arrival: Arrival, now: float, *, is_whole: bool) -> str:
    """Return the header for the next gateway: what is whole waits already."""
    return json.dumps([round(now - arrival.at, 4), arrival.address, arrival.admitted or is_whole])


def _by_unix_socket(request: web.BaseRequest) -> bool:
    transport = request.transport
    return transport is not None and isinstance(transport.get_extra_info("sockname"), str | bytes)
