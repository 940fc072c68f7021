"""One inference request from the socket to the last byte: parse, wait for a slot, relay, retry.

The order of steps and nothing else; what may be retried, who runs where and what an error looks like are
decided in `relay.outcome`, `scheduling` and `surfaces`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from random import Random
from typing import Any

import tenacity
from aiohttp import web

from gateway.doubts import doubtful, took_a_load
from gateway.fleet import Fleet
from gateway.http.bodies import read_body
from gateway.http.context import Contexts, body_for, note_context
from gateway.http.edge import REQUEST_ID
from gateway.http.harms import Harms
from gateway.http.refusals import Refusal, refusal_of
from gateway.http.request_log import RequestRecord
from gateway.http.speakers import Speakers
from gateway.relay.outcome import (
    AttemptFailedError,
    Broken,
    NoRoute,
    NotSent,
    Outcome,
    Refused,
    StreamFailedError,
    backoff_s,
    may_retry,
    status_of,
)
from gateway.relay.stream import AsItComes, EndOfStream, Passage, WholeFrames, pump
from gateway.relay.upstream import Reply, Upstream
from gateway.roster import Target, names_in_words
from gateway.runtime import Lease, RejectedError, Runtime
from gateway.scheduling.names import Instance, Variant
from gateway.scheduling.types import Arrived, UnloadAsked
from gateway.surfaces.echo import Echo
from gateway.surfaces.identity import Caller
from gateway.surfaces.naming import unknown_model
from gateway.surfaces.surface import BadRequestError, Counts, Facts, Surface
from gateway.workers.engines import worker_route
from supervisor.contract.fleet import WorkerStatus

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Exchange:
    """What one request carries through its attempts."""

    request: web.Request
    surface: Surface
    route: str
    """As workers know it."""
    target: Target
    facts: Facts
    body: bytes
    """What goes to the worker."""
    content_type: str
    variant: Variant
    arrived_at: float
    deadline: float
    record: RequestRecord
    avoid: frozenset[Instance] = frozenset()
    """Where it failed, or cannot be served."""
    breaks: int = 0
    """Attempts that broke off."""

    @property
    def echo(self) -> Echo | None:
        """What has the answer name the model as the client did; None where the worker does it."""
        asked = self.facts.model
        return Echo(asked) if self.target.name != asked else None

    def arrival(self) -> Arrived:
        """Return the event of the next attempt; each has an id of its own."""
        facts = self.facts
        return Arrived(
            request=self.record.asks(self.variant, self.arrived_at),
            variant=self.variant,
            arrived_at=self.arrived_at,
            deadline=self.deadline,
            keep_alive_s=facts.keep_alive_s,
            keep_alive_given=facts.keep_alive_given,
            avoid=self.avoid,
            tenant=facts.tenant,
            session=facts.session,
            prompt_tokens=facts.prompt_tokens,
            background=facts.background,
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
        self,
        fleet: Fleet,
        runtime: Runtime,
        upstream: Upstream,
        *,
        request_timeout_s: float,
        passes_options: bool,
        rng: Random,
    ) -> None:
        """`passes_options` is `scheduling.context: pass`; `rng` spreads retries."""
        self._fleet = fleet
        self._contexts = Contexts(fleet, passes_options)
        self._speakers = Speakers(fleet.roster)
        self._harms = Harms(fleet.roster, upstream.session)
        self._runtime = runtime
        self._upstream = upstream
        self._request_timeout_s = request_timeout_s
        self._rng = rng

    def handler(self, surface: Surface, route: str) -> Handler:
        """Return the handler of one route."""
        return partial(self._handle, surface, route)

    async def _handle(self, surface: Surface, route: str, request: web.Request) -> web.StreamResponse:
        record = RequestRecord.begin(request[REQUEST_ID], surface.name, route, self._runtime.decisions)
        try:
            response = await self._answer(surface, route, request, record)
        except BadRequestError as error:
            again_s = 5 if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
            response = _refuse(surface, record, Refusal(error.status, error.message, again_s))
        except RejectedError as error:
            record.rejection = error.rejection
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
        caller = Caller(request.headers, request.remote or "")
        parsed = surface.parse(route, await read_body(request), caller)
        record.parsed(parsed.facts)
        target = await self._fleet.resolve(parsed.facts.model, self._request_timeout_s)
        if target is None:
            known = names_in_words(self._fleet.roster.models())
            text = f"{unknown_model(route, parsed.facts.model)}; {known}"
            return _refuse(surface, record, Refusal(HTTPStatus.NOT_FOUND, text))
        record.model = target.listed
        if parsed.unload_reply is not None:
            return self._unload(target, parsed.unload_reply, record)
        self._contexts.check(surface, target)
        await self._harms.check(parsed.facts, target)
        variant = self._contexts.variant_of(parsed.facts, target, record)
        body = body_for(target, variant, parsed, surface)
        deadline = now + self._request_timeout_s
        exchange = Exchange(
            request=request,
            surface=surface,
            route=worker_route(route),
            target=target,
            facts=parsed.facts,
            body=body,
            content_type=parsed.content_type,
            variant=variant,
            arrived_at=now,
            deadline=deadline,
            record=record,
        )
        with self._fleet.roster.passed.used(variant):
            return await self._try(exchange)

    def _unload(self, target: Target, reply: Mapping[str, Any], record: RequestRecord) -> web.Response:
        for variant in self._fleet.roster.siblings(target.variant):
            self._runtime.feed(UnloadAsked(variant))
        record.finish("done", status=HTTPStatus.OK)
        return _json({**reply, "created_at": datetime.now(UTC).isoformat()}, record)

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
        instance: Instance | None = None
        exchange.avoid |= self._speakers.unable(exchange.target, exchange.route)
        try:
            async with self._runtime.lease(exchange.arrival()) as lease:
                instance = lease.grant.instance
                return await self._ask(exchange, lease)
        finally:
            if instance is not None:
                self._fleet.doubts.quieted(instance)

    async def _ask(self, exchange: Exchange, lease: Lease) -> web.StreamResponse:
        record, instance = exchange.record, lease.grant.instance
        record.granted(lease.grant)
        try:
            status = self._status(instance, exchange.route)
            note_context(self._fleet.roster, status, exchange.variant, record)
            sent_at = asyncio.get_running_loop().time()
            async with self._upstream.open(
                status.base_url + exchange.route,
                exchange.body,
                content_type=exchange.content_type,
                request_id=record.id,
                deadline=exchange.deadline,
            ) as reply:
                self._began(exchange, lease, reply, asyncio.get_running_loop().time() - sent_at)
                return await self._relay(exchange, lease, reply)
        except AttemptFailedError as error:
            record.failed_attempt(instance.worker, str(error))
            exchange.failed(instance, error.outcome)
            if isinstance(error.outcome, Refused):
                self._fleet.doubts.doubt(instance, str(error))
            elif isinstance(error.outcome, NoRoute):
                self._speakers.lacks(instance, exchange.route)
            raise

    def _began(self, exchange: Exchange, lease: Lease, reply: Reply, seconds: float) -> None:
        """Tell the scheduler that the prompt is read, and doubt what does not look like that alone."""
        exchange.record.first_byte()
        instance = lease.grant.instance
        if doubtful(reply.status):
            self._fleet.doubts.doubt(instance, f"answers {reply.status} for {exchange.record.model}")
        if reply.status != HTTPStatus.OK:
            return
        self._runtime.answering(lease)
        if took_a_load(seconds, exchange.facts.prompt_tokens):
            self._fleet.doubts.doubt(
                instance, f"{exchange.record.model} took {seconds:.1f} s to its first byte"
            )

    def _status(self, instance: Instance, route: str) -> WorkerStatus:
        status = self._fleet.roster.status(instance)
        if status is None or not status.base_url:  # it went away between the grant and this moment
            raise AttemptFailedError(NotSent(f"{instance} is gone"))
        if not self._speakers.can_serve(status, route):  # those who can have no room now
            raise AttemptFailedError(NoRoute(f"{instance.worker} does not speak {route}"))
        return status

    async def _relay(self, exchange: Exchange, lease: Lease, reply: Reply) -> web.StreamResponse:
        surface, record = exchange.surface, exchange.record
        streams, echo = exchange.facts.stream and _is_ok(reply), exchange.echo
        end = EndOfStream(surface.final_marks(exchange.route), surface.frame_end)
        if echo is not None and not streams and _is_ok(reply):
            return await _renamed(exchange, lease, reply, echo, end)
        headers = {**_headers(surface, record), **reply.headers}
        response = web.StreamResponse(status=reply.status, headers=headers)
        response.content_length = reply.content_length if echo is None else None
        await response.prepare(exchange.request)
        rewrite = echo.frames if echo is not None else None
        passage: Passage = WholeFrames(surface.frame_end, rewrite) if streams else AsItComes()
        try:
            await pump(reply.chunks(), response.write, end, passage, must_end=streams)
            await response.write_eof()
        except StreamFailedError as error:
            if streams:
                await response.write(passage.closing() + surface.error_frame(str(error), end.frames))
            record.finish("broken", status=reply.status, error=str(error))
            _abort(exchange.request)
        else:
            _ended(exchange, lease, reply, end)
        return response


async def _renamed(
    exchange: Exchange, lease: Lease, reply: Reply, echo: Echo, end: EndOfStream
) -> web.Response:
    """Answer with the whole body, in which the model has another name; until it is there, nothing is sent."""
    try:
        body = echo.body(b"".join([chunk async for chunk in reply.chunks()]))
    except StreamFailedError as error:
        outcome = error.outcome
        raise AttemptFailedError(
            Broken(0, outcome.why) if isinstance(outcome, Broken) else outcome
        ) from error
    end.add(body)
    _ended(exchange, lease, reply, end)
    headers = {**_headers(exchange.surface, exchange.record), **reply.headers}
    return web.Response(status=reply.status, body=body, headers=headers)


def _ended(exchange: Exchange, lease: Lease, reply: Reply, end: EndOfStream) -> None:
    """Tell scheduler and log of an answer that came whole."""
    counts = exchange.surface.counts(exchange.route, end.tail, end.frames) if _is_ok(reply) else Counts()
    lease.ended_well = _is_ok(reply) and exchange.facts.computes
    lease.output_tokens, lease.prompt_tokens = counts
    exchange.record.finish("done", status=reply.status, counts=counts)


def _headers(surface: Surface, record: RequestRecord) -> dict[str, str]:
    return {surface.id_header: record.id, **record.response_headers()}


def _is_ok(reply: Reply) -> bool:
    return reply.status == HTTPStatus.OK


def _abort(request: web.Request) -> None:
    """End the connection without the last chunk, so that no client takes the stump for an answer."""
    if request.transport is not None:
        request.transport.close()


def _refuse(surface: Surface, record: RequestRecord, refusal: Refusal) -> web.Response:
    record.finish("refused", status=refusal.status, error=refusal.message)
    headers = _headers(surface, record)
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    if refusal.status == HTTPStatus.NOT_IMPLEMENTED:
        headers["X-Should-Retry"] = "false"  # the SDKs of OpenAI and Anthropic would try a 5xx again
    body = surface.error(refusal.status, refusal.message, request_id=record.id)
    headers["Content-Type"] = "application/json; charset=utf-8"
    return web.Response(status=refusal.status, body=body, headers=headers)


def _json(answer: dict[str, object], record: RequestRecord) -> web.Response:
    return web.json_response(body=json.dumps(answer).encode(), headers=record.response_headers())
