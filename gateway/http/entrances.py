"""All sockets of one gateway: the clients' port, and those in the runtime directory.

Decides in which order they appear and go, so that a name in the runtime directory always leads to a gateway
that answers. Each gateway's sockets bear its number; the names without one are moved to the newest gateway
in one step, once it serves.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway import host
from gateway.http.door import Door, most_clients
from gateway.http.server import ClientRunner, ClientServer
from supervisor.contract.runtime_dir import FORWARD_SOCKET, GATEWAY_SOCKET, HANDOVER_SOCKET, numbered

Meet = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]

_FIRST_WORDS_S: Final = 0.25
"""Between a client's connection and its request."""
_PUBLISHED: Final = (GATEWAY_SOCKET, FORWARD_SOCKET)


def others_handover_sockets(runtime_dir: Path, generation: int) -> list[Path]:
    """Return the sockets on which other gateways may be asked to hand over; some may be dead."""
    own = numbered(HANDOVER_SOCKET, generation)
    found = runtime_dir.glob(HANDOVER_SOCKET.replace(".", ".*.")) if host.has_unix_sockets() else ()
    return sorted(path for path in found if path.name != own)


@dataclass(slots=True)
class Entrances:
    """Opened in three steps: `set_up`, `let_in`, `publish`."""

    clients: ClientRunner
    operator: web.AppRunner
    listener: socket.socket
    runtime_dir: Path
    generation: int
    _door: web.BaseSite | None = None
    _handover: asyncio.Server | None = None

    @property
    def _client_server(self) -> ClientServer:
        assert isinstance(self.clients.server, ClientServer)
        return self.clients.server

    async def set_up(self) -> None:
        """Make the application ready to answer."""
        for runner in (self.clients, self.operator):
            await runner.setup()

    async def open_directory(self, meet: Meet) -> None:
        """Answer operators, older gateways, and with `meet` newer ones."""
        if not host.has_unix_sockets():
            return
        for runner, name in ((self.operator, GATEWAY_SOCKET), (self.clients, FORWARD_SOCKET)):
            path = self._own(name)
            path.unlink(missing_ok=True)
            await web.UnixSite(runner, str(path)).start()
            path.chmod(0o600)
        path = self._own(HANDOVER_SOCKET)
        path.unlink(missing_ok=True)
        self._handover = await asyncio.start_unix_server(meet, str(path))
        path.chmod(0o600)

    async def let_in(self) -> None:
        """Let clients in."""
        self.listener.settimeout(0)  # which all who share the socket have in common, and a copy takes over
        descriptors, listener = host.most_descriptors(), self.listener.dup()
        self._door = (
            web.SockSite(self.clients, listener)
            if descriptors is None
            else Door(self.clients, listener, most=most_clients(descriptors))
        )
        await self._door.start()

    async def shut(self) -> None:
        """Let nobody in; who comes waits in the listen backlog."""
        door, self._door = self._door, None
        if door is not None:
            await door.stop()

    async def leave_to_successor(self) -> None:
        """Shut, because everything ends, once those who were let in last have said what they want."""
        await self.shut()
        await asyncio.sleep(_FIRST_WORDS_S)

    def publish(self) -> None:
        """Have the names without a number lead here."""
        for name in _PUBLISHED if host.has_unix_sockets() else ():
            fresh = self.runtime_dir / f".{name}"
            fresh.unlink(missing_ok=True)
            os.link(self._own(name), fresh)
            fresh.replace(self.runtime_dir / name)

    def give_up_port(self) -> None:
        """Have nobody wait here who could not be answered any more."""
        self.listener.close()

    async def wait_until_left(self) -> None:
        """Return when no client is connected."""
        await self._client_server.wait_until_empty()

    def close(self) -> None:
        """Leave nothing in the runtime directory; what has become another gateway's stays."""
        self.listener.close()
        if not host.has_unix_sockets():
            return
        if self._handover is not None:
            self._handover.close()
        for name in _PUBLISHED:
            with suppress(FileNotFoundError):
                if self._own(name).samefile(self.runtime_dir / name):
                    (self.runtime_dir / name).unlink()
        for name in (*_PUBLISHED, HANDOVER_SOCKET):
            self._own(name).unlink(missing_ok=True)

    def _own(self, name: str) -> Path:
        return self.runtime_dir / numbered(name, self.generation)
