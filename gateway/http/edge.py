"""What each request of the clients' port passes before anything else, and what every answer carries.

In order: a request id; whether the page or host that asks may ask at all; whether the target is written as
its route is. Answers get the id, Retry-After where it is worth to come again, and CORS headers. Whatever is
refused outside of a surface's own handlers gets the shape that clients of that path can read. Decides no
more than the order; who may ask is `origins.py`'s.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, unquote

import structlog
from aiohttp import hdrs, web

from gateway.http.arrival import ARRIVAL, arrival_of
from gateway.http.bodies import let_go
from gateway.http.origins import Origins, preflight
from gateway.http.turn import ENDING, TURN, Turn, Whose
from gateway.runtime import HandedOverError
from gateway.surfaces.surface import BadRequestError, Surface

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID: Final = web.RequestKey("request_id", str)
"""Under this key a request holds its id: the client's own if it is sane."""
REQUEST_ID_HEADER: Final = "X-Request-Id"
_AS_WRITTEN: Final = "/:@"
"""What stands in a path as it is; a model's name has colons."""
_SLASHES: Final = re.compile("//+")
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")

_COME_AGAIN: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_COME_AGAIN_S: Final = "5"
"""For what is refused without saying when; the SDKs honour 1 to 30."""
_MOST_REMEMBERED: Final = 100
_MOST_CHARACTERS: Final = 200
_PLAIN_TEXTS: Final = {404: "404 page not found", 405: "405 method not allowed"}
"""What Ollama's own router says; clients of /api know these."""

_log = structlog.get_logger("edge")


def chosen_id(wanted: str | None) -> str:
    """Return the id that a client gave its request, so that its logs match ours, or a new one."""
    return wanted if wanted is not None and _SANE_ID.match(wanted) else secrets.token_hex(8)


def plain_path(target: str) -> str | None:
    """Return the decoded path of a request's target, or None of one that is written oddly.

    Routes are allow-listed by their exact path. `//api/chat` or `/api/../x` is none of them, however an
    application in between or behind would read it.
    """
    decoded = unquote(_parts_of(target)[1])
    segments = decoded.split("/")
    if segments[0] or "\\" in decoded or not {".", ".."}.isdisjoint(segments) or "" in segments[1:-1]:
        return None
    return decoded


def with_single_slashes(target: str) -> str | None:
    """Return the decoded path without repeated slashes, or None where that is no other plain path."""
    decoded = unquote(_parts_of(target)[1])
    single = _SLASHES.sub("/", decoded)
    return plain_path(quote(single)) if single != decoded else None


def authority_of(target: str) -> str:
    """Return the host that a target in absolute form names, as a proxy is asked; it goes before Host."""
    return _parts_of(target)[0]


def _parts_of(target: str) -> tuple[str, str]:
    """Return authority and path."""
    written = target.partition("?")[0]
    _, scheme, rest = written.partition("://")
    if written.startswith("/") or not scheme:
        return "", written
    authority, slash, path = rest.partition("/")
    return authority, f"/{path}" if slash else "/"


@dataclass(slots=True)
class Edge:
    """The outermost layer of one application."""

    origins: Origins
    """Who may ask now; the operator may change that at any time."""
    surface_of: Callable[[str], Surface]
    """Whose errors clients of a path understand."""
    turn: Turn = field(default_factory=Turn)
    _told: set[str] = field(default_factory=set)
    """Origins and hosts whose refusal stands in the log."""

    def install(self, app: web.Application) -> None:
        """Take the outermost place in an application."""

        @web.middleware
        async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await self._pass(request, handler)
            finally:
                let_go(request)

        app.middlewares.insert(0, outermost)
        app.on_response_prepare.append(self._complete)

    async def _pass(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        request[REQUEST_ID] = chosen_id(request.headers.get(REQUEST_ID_HEADER))
        request[ARRIVAL] = arrival_of(request, asyncio.get_running_loop().time())
        request[TURN] = self.turn
        answered = self._admission(request)
        if answered is not None:
            return answered
        with self.turn.answering():
            return await self._answer(request, handler)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await self._by_whose_turn_it_is(request, handler)
        except asyncio.CancelledError:
            if not self._is_parting(request):
                raise
            return self._refusal(request, HTTPStatus.SERVICE_UNAVAILABLE, self.turn.parting)
        except BadRequestError as error:
            return self._refusal(request, error.status, error.message)
        except web.HTTPNotFound as error:
            return self._elsewhere(request) or self._refused(request, error)
        except web.HTTPClientError as error:
            return self._refused(request, error)

    def _is_parting(self, request: web.Request) -> bool:
        """Whether it was not the client who left, and can still be told something."""
        task = asyncio.current_task()
        parting = bool(self.turn.parting) and request.writer.output_size == 0
        return parting and task is not None and not task.uncancel()

    async def _by_whose_turn_it_is(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer, or have it answered: also what waited when the turn ended."""
        if not self.turn.is_over:
            try:
                return await handler(request)
            except HandedOverError:
                pass
        if self.turn.whose is Whose.ANOTHERS and self.turn.forward is not None:
            return await self.turn.forward(request)
        return self._refusal(request, HTTPStatus.SERVICE_UNAVAILABLE, ENDING)

    def _admission(self, request: web.Request) -> web.Response | None:
        """Return the answer to what no handler is to see."""
        origin, host = request.headers.get(hdrs.ORIGIN, ""), _host_of(request)
        if not self.origins.admits(origin, host):
            self._tell(origin, host)
            return web.Response(status=HTTPStatus.FORBIDDEN)
        if request.method == hdrs.METH_OPTIONS and self.origins.shares(origin):
            asked = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
            return web.Response(status=HTTPStatus.NO_CONTENT, headers=preflight(asked))
        if _as_routed(request):
            return None
        return self._elsewhere(request) or self._refused(request, web.HTTPNotFound())

    async def _complete(self, request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers.setdefault(REQUEST_ID_HEADER, request.get(REQUEST_ID) or chosen_id(None))
        headers.popall(hdrs.SERVER, None)
        if self.turn.is_over:
            response.force_close()
            headers[hdrs.CONNECTION] = "close"
        if response.status in _COME_AGAIN:
            headers.setdefault(hdrs.RETRY_AFTER, _COME_AGAIN_S)
        headers.update(self.origins.headers(request.headers.get(hdrs.ORIGIN, "")))

    def _tell(self, origin: str, host: str) -> None:
        """Write each origin and host once: a page may ask a thousand times."""
        asked = f"{origin} {host}"[:_MOST_CHARACTERS]
        if asked in self._told or len(self._told) >= _MOST_REMEMBERED:
            return
        self._told.add(asked)
        advice = "allow a page's origin in gateway.cors_origins; address a loopback server as localhost"
        _log.warning("refused an origin or host", origin=origin[:200], host=host[:200], advice=advice)

    def _elsewhere(self, request: web.Request) -> web.Response | None:
        """Return the way to the route without slashes too many, which Ollama shows too.

        They come of a client's base URL that ends with one.
        """
        single = with_single_slashes(request.raw_path)
        if single is not None:
            return moved(request, HTTPStatus.TEMPORARY_REDIRECT, single)
        path = request.path.removesuffix("/")
        known = (resource.canonical for resource in request.app.router.resources())
        if path == request.path or plain_path(request.raw_path) is None or path not in known:
            return None
        get = request.method == "GET"
        return moved(request, HTTPStatus.MOVED_PERMANENTLY if get else HTTPStatus.TEMPORARY_REDIRECT, path)

    def _refused(self, request: web.Request, error: web.HTTPException) -> web.Response:
        allow = {hdrs.ALLOW: error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}
        plain = _PLAIN_TEXTS.get(error.status)
        if plain is not None and not request.path.startswith("/v1/"):
            headers = {hdrs.CONTENT_TYPE: "text/plain", **allow}
            return web.Response(status=error.status, body=plain.encode(), headers=headers)
        text = f"{plain}: {request.method} {request.path}" if plain is not None else error.text or ""
        response = self._refusal(request, error.status, text)
        response.headers.update(allow)
        return response

    def _refusal(self, request: web.Request, status: int, message: str) -> web.Response:
        body = self.surface_of(request.path).error(status, message)
        return web.Response(status=status, body=body, content_type="application/json", charset="utf-8")


def moved(request: web.Request, status: HTTPStatus, path: str) -> web.Response:
    """Show the way to another path."""
    query = f"?{request.query_string}" if request.query_string else ""
    return web.Response(status=status, headers={hdrs.LOCATION: quote(path, safe=_AS_WRITTEN) + query})


def _host_of(request: web.Request) -> str:
    return authority_of(request.raw_path) or request.headers.get(hdrs.HOST, "")


def _as_routed(request: web.Request) -> bool:
    """Whether the target is, letter for letter, the route that the router took it for."""
    path = plain_path(request.raw_path)
    resource = request.match_info.route.resource
    if path is None or resource is None:
        return resource is None
    return not isinstance(resource, web.PlainResource) or path == resource.canonical
