"""The supervisor's own door for operators: one JSON line asks, JSON lines answer, then it is closed.

Decides how a question is read and how long it may take to come; what is asked and answered is the commands'.
Whoever leaves is told no more, and what was asked for goes on. Only our own user may connect.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import structlog

from supervisor.contract.shell.background_tasks import BackgroundTasks
from supervisor.host.snapshots import bind_privately

Question: TypeAlias = Mapping[str, Any]
Answer: TypeAlias = Mapping[str, Any]
"""One line: `{"progress": …}`, or the last one, `{"done": …}` or `{"error": …, "code": …}`."""
Command: TypeAlias = Callable[[Question], AsyncGenerator[Answer, None]]

_LONGEST_BYTES: Final = 64 * 2**10
_PATIENCE_S: Final = 10.0
"""For the question to come."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class ControlServer:
    """Answers on a unix socket."""

    path: Path
    commands: Mapping[str, Command]
    """By the name under `command` in the question."""
    _server: asyncio.Server | None = None
    _conversations: BackgroundTasks = field(default_factory=BackgroundTasks)

    async def start(self) -> None:
        """Listen, in place of a socket that a killed supervisor may have left."""
        fresh = self.path.with_name(f".{self.path.name}")
        fresh.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._connected, sock=bind_privately(fresh), limit=_LONGEST_BYTES
        )
        fresh.replace(self.path)

    async def close(self) -> None:
        """Stop listening, remove the socket and leave those who still wait for an answer."""
        if self._server is not None:
            self._server.close()
        await self._conversations.close()
        with suppress(FileNotFoundError):
            self.path.unlink()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._conversations.start(self._converse(reader, writer))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except OSError as error:
            _log.debug("whoever asked has left", error=str(error))
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                question = _read(await reader.readline())
            command = self.commands[question["command"]]
        except (ValueError, LookupError, TypeError, TimeoutError):
            known = ", ".join(sorted(self.commands))
            await _write(writer, {"error": f'one line of JSON is expected, {{"command": …}} of: {known}'})
            return
        _log.info("asked on the control socket", **question)
        async with aclosing(command(question)) as answers:
            async for answer in answers:
                await _write(writer, answer)


def _read(line: bytes) -> dict[str, Any]:
    question = json.loads(line)
    if not isinstance(question, dict):
        raise TypeError(line)
    return question


async def _write(writer: asyncio.StreamWriter, answer: Answer) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")
    await writer.drain()
