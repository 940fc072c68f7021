"""Asks a worker whether it lives: for its version, and for one token of a model that it holds.

Decides how that is asked and nothing about what follows. A model that only embeds is asked for a vector.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from gateway.health.signs import Alive, Ill, Sign, Silent, sign_of
from gateway.relay.outcome import AttemptFailedError, Phase, TimedOut
from gateway.relay.upstream import Message, Upstream
from gateway.scheduling.names import Variant

_VERSION_S: Final = 5.0
"""For a GET that costs nothing, at most."""
_REQUEST_ID: Final = "corral-health"


@dataclass(frozen=True, slots=True)
class Questions:
    """One per gateway."""

    upstream: Upstream

    async def version(self, base_url: str, within_s: float) -> Sign:
        """Ask whether the server lives."""
        limit_s = min(_VERSION_S, within_s)
        timeout = aiohttp.ClientTimeout(total=limit_s)
        try:
            async with self.upstream.session.get(
                f"{base_url}/api/version", timeout=timeout, allow_redirects=False
            ) as response:
                await response.read()
        except TimeoutError:
            return Silent(f"no answer to GET /api/version within {limit_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return Ill(f"GET /api/version: {str(error) or type(error).__name__}")
        if response.status >= 500:  # noqa: PLR2004 -- a class of statuses
            return Ill(f"GET /api/version answers {response.status}")
        return Alive()

    async def token(
        self, base_url: str, name: str, variant: Variant, *, embeds: bool, within_s: float
    ) -> Sign:
        """Ask for one token, or one vector, of a model that is there."""
        route, body = _for_a_vector(name) if embeds else _for_a_token(name)
        body["options"] = {**dict(variant.options), **body.get("options", {})}
        message = Message(
            url=base_url + route,
            body=json.dumps(body).encode(),
            content_type="application/json",
            request_id=_REQUEST_ID,
            deadline=asyncio.get_running_loop().time() + 2 * within_s,
            first_byte_s=within_s,
        )
        try:
            async with self.upstream.open(message) as reply:
                async for _ in reply.chunks():
                    pass
        except AttemptFailedError as error:
            if isinstance(error.outcome, TimedOut) and error.outcome.phase is Phase.FIRST_BYTE:
                return Silent(f"no token of {name} within {within_s:g} s")
            return sign_of(error.outcome)
        return Alive()


def _for_a_vector(name: str) -> tuple[str, dict[str, Any]]:
    return "/api/embed", {"model": name, "input": "."}


def _for_a_token(name: str) -> tuple[str, dict[str, Any]]:
    """Without the model's template, which could make a long prompt of it."""
    body = {"model": name, "prompt": ".", "raw": True, "stream": False, "options": {"num_predict": 1}}
    return "/api/generate", body
