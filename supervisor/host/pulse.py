"""Asks the gateway, again and again, whether its event loop turns, and says when it does not.

Decides how often it is asked and after how many missed answers it is called hung. What is done about it, and
what systemd is told, is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MISSES: Final = 3
"""This many missed answers in a row are no accident."""
_PATH: Final = "/corral/health"
_LONGEST_ANSWER: Final = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """How often, in seconds."""

    every_s: float = 2.0
    """Between an answer and the next question."""
    patience_s: float = 5.0
    """How long an answer may take: far longer than any step of the gateway's loop."""


USUAL: Final = Beat()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """One supervisor's care for its gateway."""

    socket_path: Path
    is_ready: Callable[[], bool]
    """Whether the supervisor believes that there is a gateway which answers; one that starts is not asked."""
    answered: Callable[[int | None], None]
    """Gets the number of models loaded, where the gateway told it."""
    silent: Callable[[], None]
    """There is no gateway to ask, or it is called hung."""
    hung: Callable[[str], None]
    """The gateway must be replaced; gets the reason."""
    beat: Beat

    async def feel(self) -> None:
        """Ask until cancelled."""
        misses = 0
        while True:
            misses = await self._beat(misses)
            await asyncio.sleep(self.beat.every_s)

    async def _beat(self, misses: int) -> int:
        """Ask once; return how many answers in a row were missed so far."""
        if not self.is_ready():
            self.silent()
            return 0
        answer = await self._ask()
        if answer is not None:
            self.answered(_models_loaded(answer))
            return 0
        if misses + 1 < MISSES:
            return misses + 1
        self.silent()
        if self.is_ready():
            self.hung(f"hangs: no answer to {MISSES} health checks in a row")
        return 0

    async def _ask(self) -> bytes | None:
        try:
            async with asyncio.timeout(self.beat.patience_s):
                return await _get(self.socket_path)
        except (OSError, TimeoutError):
            return None


async def _get(socket_path: Path) -> bytes | None:
    """Return the body of an answer 200."""
    reader, writer = await asyncio.open_unix_connection(socket_path, limit=_LONGEST_ANSWER)
    try:
        writer.write(f"GET {_PATH} HTTP/1.1\r\nHost: corral\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while len(answer) < _LONGEST_ANSWER and (more := await reader.read(_LONGEST_ANSWER)):
            answer += more
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return body if head.split(b" ")[1:2] == [b"200"] else None


def _models_loaded(body: bytes) -> int | None:
    try:
        said = json.loads(body)
    except ValueError:
        return None
    models = said.get("models_loaded") if isinstance(said, dict) else None
    return models if isinstance(models, int) else None
