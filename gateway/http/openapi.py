"""GET /corral/openapi.json: the description of the clients' port, written once when somebody asks for it."""

from __future__ import annotations

import asyncio
import json
from functools import cache

from aiohttp import web

from gateway.surfaces.description import described


async def openapi(_: web.Request) -> web.Response:
    """Answer with the document; the first writing takes some tens of ms, in a thread of its own."""
    return web.Response(body=await asyncio.to_thread(_document), content_type="application/json")


@cache
def _document() -> bytes:
    return json.dumps(described()).encode()
