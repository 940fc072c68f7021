"""One inference request from the socket to the last byte: parse, wait for a slot, relay, retry.

The order of steps and nothing else; what may be retried, who runs where and what an error looks like are
decided in `relay.outcome`, `scheduling` and `surfaces`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from random import Random

import tenacity
from aiohttp import web

from gateway.fleet import Fleet
from gateway.http.refusals import Refusal, refusal_of
from gateway.http.request_log import RequestRecord
from gateway.relay.outcome import (
    AttemptFailedError,
    Broken,
    NotSent,
    Outcome,
    StreamFailedError,
    backoff_s,
    may_retry,
    status_of,
)
from gateway.relay.stream import EndOfStream, pump
from gateway.relay.upstream import Reply, Upstream
from gateway.roster import Target, names_in_words
from gateway.runtime import RejectedError, Runtime
from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.types import Arrived, Grant, UnloadAsked
from gateway.surfaces.surface import BadRequestError, Facts, ParsedRequest, Surface, addressed
from supervisor.contract.wire import model_not_found

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Exchange:
    """What one request carries through its attempts."""

    request: web.Request
    surface: Surface
    facts: Facts
    body: bytes
    """What goes to the worker."""
    variant: Variant
    arrived_at: float
    deadline: float
    record: RequestRecord
    avoid: frozenset[Instance] = frozenset()
    attempt: int = 0
    breaks: int = 0
    """Attempts that broke off."""

    def arrival(self) -> Arrived:
        """Return the event of the next attempt; each has an id of its own."""
        self.attempt += 1
        return Arrived(
            request=RequestId(f"{self.record.id}.{self.attempt}"),
            variant=self.variant,
            arrived_at=self.arrived_at,
            deadline=self.deadline,
            keep_alive_s=self.facts.keep_alive_s,
            keep_alive_given=self.facts.keep_alive_given,
            avoid=self.avoid,
        )

    def failed(self, instance: Instance, outcome: Outcome) -> None:
        """Remember where and how an attempt failed."""
        self.avoid |= {instance}
        self.breaks += isinstance(outcome, Broken)

    def may_try_again(self, error: BaseException) -> bool:
        """Whether the failure allows another attempt."""
        return isinstance(error, AttemptFailedError) and may_retry(error.outcome, breaks=self.breaks)


class InferenceHandlers:
    """Handlers for the routes of the surfaces."""

    def __init__(
        self, fleet: Fleet, runtime: Runtime, upstream: Upstream, *, request_timeout_s: float, rng: Random
    ) -> None:
        """`rng` spreads retries."""
        self._fleet = fleet
        self._runtime = runtime
        self._upstream = upstream
        self._request_timeout_s = request_timeout_s
        self._rng = rng

    def handler(self, surface: Surface, route: str) -> Handler:
        """Return the handler of one route."""
        return partial(self._handle, surface, route)

    async def _handle(self, surface: Surface, route: str, request: web.Request) -> web.StreamResponse:
        record = RequestRecord.begin(request.headers.get("X-Request-Id"), surface.name, route)
        try:
            response = await self._answer(surface, route, request, record)
        except BadRequestError as error:
            response = _refuse(surface, record, Refusal(error.status, error.message))
        except web.HTTPRequestEntityTooLarge:
            response = _refuse(surface, record, _too_large(request))
        except RejectedError as error:
            response = _refuse(surface, record, refusal_of(error.rejection))
        except AttemptFailedError as error:
            response = _refuse(surface, record, Refusal(status_of(error.outcome), str(error)))
        except (asyncio.CancelledError, ConnectionResetError):
            record.finish("client gone")
            raise
        return response

    async def _answer(
        self, surface: Surface, route: str, request: web.Request, record: RequestRecord
    ) -> web.StreamResponse:
        now = asyncio.get_running_loop().time()
        parsed = surface.parse(route, await request.read())
        record.model = parsed.facts.model
        record.ignored_options = dict(parsed.facts.ignored_options)
        target = await self._fleet.resolve(parsed.facts.model, self._request_timeout_s)
        if target is None:
            known = names_in_words(self._fleet.roster.models())
            text = f"{model_not_found(parsed.facts.model)}; {known}"
            return _refuse(surface, record, Refusal(HTTPStatus.NOT_FOUND, text))
        if parsed.unload_reply is not None:
            self._runtime.feed(UnloadAsked(target.variant))
            record.finish("done", status=HTTPStatus.OK)
            return _json({**parsed.unload_reply, "created_at": datetime.now(UTC).isoformat()}, record)
        self._check_context(surface, target)
        body = _body_for(target, parsed)
        deadline = now + self._request_timeout_s
        return await self._try(
            Exchange(request, surface, parsed.facts, body, target.variant, now, deadline, record)
        )

    def _check_context(self, surface: Surface, target: Target) -> None:
        if not surface.carries_context and self._fleet.roster.would_reload(target.variant):
            raise BadRequestError(
                f"{target.name} has a context_length of its own, which {surface.name} requests cannot carry "
                "to its worker: use /api, or serve it on a worker with that context_length"
            )

    async def _try(self, exchange: Exchange) -> web.StreamResponse:
        """Make attempts until one reaches the client, or the time is over."""
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(exchange.may_try_again),
            wait=lambda state: backoff_s(state.attempt_number, self._rng),
            stop=tenacity.stop_before_delay(self._request_timeout_s),
            reraise=True,
        )
        return await attempts(self._attempt, exchange)

    async def _attempt(self, exchange: Exchange) -> web.StreamResponse:
        record = exchange.record
        async with self._runtime.lease(exchange.arrival()) as grant:
            record.granted(grant.instance.worker, grant.why, grant.queued_s)
            try:
                url = self._url(grant, exchange)
                async with self._upstream.open(
                    url, exchange.body, request_id=record.id, deadline=exchange.deadline
                ) as reply:
                    record.first_byte()
                    return await self._relay(exchange, reply)
            except AttemptFailedError as error:
                record.failed_attempt(grant.instance.worker, str(error))
                exchange.failed(grant.instance, error.outcome)
                raise

    def _url(self, grant: Grant, exchange: Exchange) -> str:
        status = self._fleet.roster.status(grant.instance)
        if status is None or not status.base_url:  # it went away between the grant and this moment
            raise AttemptFailedError(NotSent(f"{grant.instance} is gone"))
        return status.base_url + exchange.request.path

    async def _relay(self, exchange: Exchange, reply: Reply) -> web.StreamResponse:
        surface, record = exchange.surface, exchange.record
        response = web.StreamResponse(status=reply.status, headers=record.response_headers())
        response.headers["Content-Type"] = reply.content_type
        response.content_length = reply.content_length
        await response.prepare(exchange.request)
        end = EndOfStream(surface.final_mark(exchange.request.path))
        must_end = exchange.facts.stream and reply.status == HTTPStatus.OK
        try:
            await pump(reply.chunks(), response.write, end, must_end=must_end)
            await response.write_eof()
        except StreamFailedError as error:
            if exchange.facts.stream:
                await response.write(surface.error_frame(str(error)))
            record.finish("broken", status=reply.status, error=str(error), tokens=surface.tokens(end.tail))
            _abort(exchange.request)
        else:
            record.finish("done", status=reply.status, tokens=surface.tokens(end.tail))
        return response


def _body_for(target: Target, parsed: ParsedRequest) -> bytes:
    """Return the client's bytes, unless the model has another name or a context of its own."""
    num_ctx = target.variant.num_ctx
    if num_ctx is None and target.name == parsed.facts.model:
        return parsed.body
    return addressed(parsed.body, model=target.name, num_ctx=num_ctx)


def _abort(request: web.Request) -> None:
    """End the connection without the last chunk, so that no client takes the stump for an answer."""
    if request.transport is not None:
        request.transport.close()


def _refuse(surface: Surface, record: RequestRecord, refusal: Refusal) -> web.Response:
    record.finish("refused", status=refusal.status, error=refusal.message)
    headers = record.response_headers()
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    body = surface.error(refusal.status, refusal.message)
    return web.Response(status=refusal.status, body=body, content_type="application/json", headers=headers)


def _too_large(request: web.Request) -> Refusal:
    limit = f"the request body is larger than gateway.max_body_size ({request.client_max_size} bytes)"
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, limit)


def _json(answer: dict[str, object], record: RequestRecord) -> web.Response:
    return web.json_response(body=json.dumps(answer).encode(), headers=record.response_headers())
