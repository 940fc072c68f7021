"""An answer on its way to its client: begun with its first bytes, and remembered where it may have to go on.

Nothing is begun before there is something to send, so that until then the request can be made again.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from gateway.http.arrival import BODY
from gateway.relay.outcome import Broken, StreamFailedError
from gateway.surfaces.continuing_frames import Heard


@dataclass(slots=True)
class Outgoing:
    """One answer."""

    request: web.Request
    response: web.StreamResponse
    heard: Heard | None = None
    """Takes in what is sent; None where nobody would go on with it."""

    @property
    def begun(self) -> bool:
        """Whether the client has anything of it."""
        return self.response.prepared

    async def write(self, data: bytes) -> None:
        """Send what a worker said.

        Raises:
            StreamFailedError: it said in a frame of its stream that it failed, and somebody may go on.
        """
        if self.heard is None:
            await self.send(data)
            return
        frames, error = self.heard.add(data)
        if frames:
            await self.send(frames)
        if error:
            raise StreamFailedError(Broken(int(self.begun), error))

    async def send(self, data: bytes) -> None:
        """Send bytes, the head before the first of them; waits while the client reads slowly."""
        await self._begin()
        await self.response.write(data)

    async def _begin(self) -> None:
        if not self.response.prepared:
            self.request.pop(BODY, None)  # from here on nobody else can answer
            await self.response.prepare(self.request)

    async def finish(self) -> web.StreamResponse:
        """End the answer."""
        await self._begin()
        await self.response.write_eof()
        return self.response

    def abort(self) -> web.StreamResponse:
        """End the connection without the last chunk, so that no client takes the stump for an answer."""
        if self.request.transport is not None:
            self.request.transport.close()
        return self.response
