"""The HTTP server of the clients' port: aiohttp's, with limits where it has none.

Decides how long a connection may be idle, how large its headers may be, when a client that takes nothing of
its answer is given up, and what is answered when no handler could answer. Knows no routes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.http.edge import REQUEST_ID, REQUEST_ID_HEADER, chosen_id

IDLE_S: Final = 75.0
"""So long a connection may stay without a whole request head, the first time and between requests."""
HEADER_BYTES: Final = 16 * 2**10
"""Of one header line, or of the request line: browsers send the cookies of all servers on a host."""
MOST_HEADERS: Final = 128
STALLED_S: Final = 300
"""A client that takes nothing of its answer for so long, or is not there any more, is cut off: it holds a
slot."""
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""A client that waits in a queue is sent nothing, so a vanished one must be asked after."""

ErrorBody = Callable[[str, int, str], bytes]
"""From path, status and text to a JSON body that clients of the path can read."""

_log = structlog.get_logger("edge")


class ClientProtocol(web.RequestHandler):
    """One connection."""

    def __init__(self, manager: ClientServer, **settings: Any) -> None:  # noqa: ANN401 -- aiohttp's own
        super().__init__(manager, **settings)
        self._server = manager
        self._error_body = manager.error_body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the system notice a client that is gone, or stopped to read."""
        super().connection_made(transport)
        self._server.open.add(self)
        connection = transport.get_extra_info("socket")
        if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
            return
        for name, value in {"TCP_USER_TIMEOUT": STALLED_S * 1000, **_KEEPALIVE}.items():
            option = getattr(socket, name, None)  # not every system has each
            if option is not None:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another."""
        super().connection_lost(exc)
        self._server.closed(self)

    def silent_since(self) -> float | None:
        """Return since when nothing is asked here, on the event loop's clock; None of one that is at work."""
        waits = self._waiter is not None and not self._waiter.done() and not self._messages
        return self._next_keepalive_close_time - IDLE_S if waits else None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 -- the parser's words are not for clients
    ) -> web.StreamResponse:
        """Answer what is no HTTP (400) as Go does, and a handler's failure in the client's shape."""
        known = request.get(REQUEST_ID) or chosen_id(request.headers.get(REQUEST_ID_HEADER))
        if request.writer.output_size > 0:
            _log.error("an answer broke off in the gateway", id=known, path=request.path, exc_info=exc)
            raise ConnectionError("the answer had begun: it can only be broken off")
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            kind, body = "text/plain", f"{status} {HTTPStatus(status).phrase}".encode()
        else:
            _log.error("a request failed in the gateway", id=known, path=request.path, exc_info=exc)
            text = f"internal error in Corral's gateway; its log tells more of request {known}"
            kind, body = "application/json", self._error_body(request.path, status, text)
        headers = {REQUEST_ID_HEADER: known, "Content-Type": f"{kind}; charset=utf-8"}
        response = web.Response(status=status, body=body, headers=headers)
        response.force_close()
        return response


class ClientServer(web.Server):
    """Makes a protocol for each connection."""

    def __init__(self, app_server: web.Server, error_body: ErrorBody, **settings: Any) -> None:  # noqa: ANN401 -- aiohttp's own
        """Serve what `app_server` would."""
        super().__init__(
            app_server.request_handler,
            request_factory=app_server.request_factory,
            handler_cancellation=app_server.handler_cancellation,
            **settings,
        )
        self.error_body = error_body
        self.open: set[ClientProtocol] = set()
        """Every connection there is."""
        self.on_closed: Callable[[], None] = lambda: None
        """Called when one has ended."""
        self._ended = asyncio.Event()
        self._settings = settings

    def closed(self, connection: ClientProtocol) -> None:
        """Take note that a connection has ended."""
        self.open.discard(connection)
        self._ended.set()
        self.on_closed()

    async def wait_until_empty(self) -> None:
        """Return when there is no connection."""
        while self.open:
            self._ended.clear()
            await self._ended.wait()

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return ClientProtocol(self, loop=asyncio.get_running_loop(), **self._settings)


class ClientRunner(web.AppRunner):
    """Runs the application of the clients' port."""

    def __init__(self, app: web.Application, error_body: ErrorBody, *, shutdown_timeout_s: float) -> None:
        """`handler_cancellation`: a handler whose client left must hear of it, or its slot is never freed."""
        super().__init__(app, handler_cancellation=True, shutdown_timeout=shutdown_timeout_s)
        self._error_body = error_body

    async def _make_server(self) -> web.Server:
        return ClientServer(
            await super()._make_server(),
            self._error_body,
            access_log=None,
            keepalive_timeout=IDLE_S,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            max_headers=MOST_HEADERS,
            auto_decompress=False,  # bodies.py does, in pieces
        )
