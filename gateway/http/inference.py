"""One inference request from the socket to the last byte: parse, wait for a slot, relay, retry.

The order of steps and nothing else; what may be retried, who runs where and what an error looks like are
decided in `relay.outcome`, `scheduling` and `surfaces`.
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from random import Random
from typing import Any, Final

import tenacity
from aiohttp import web

from gateway.fleet.doubts import doubtful, took_a_load
from gateway.fleet.fleet import Fleet
from gateway.fleet.offers import names_in_words
from gateway.fleet.roster import Target
from gateway.health.watch import Health
from gateway.http.arrival import ARRIVAL, BODY
from gateway.http.bodies import read_body
from gateway.http.context import Contexts, body_for, note_context
from gateway.http.edge import REQUEST_ID
from gateway.http.exchange import Exchange
from gateway.http.failing_over import AnswerBrokeError, BrokenAnswer, Failover
from gateway.http.harms import Harms
from gateway.http.outgoing import Outgoing
from gateway.http.refusals import Refusal, refusal_of
from gateway.http.request_log import RequestRecord
from gateway.http.speakers import Speakers
from gateway.http.turn import TURN
from gateway.relay.answers import mistake_in
from gateway.relay.budget import RetryBudget
from gateway.relay.outcome import (
    AttemptFailedError,
    Broken,
    Garbage,
    NoRoute,
    NotSent,
    Outcome,
    Phase,
    Refused,
    StreamFailedError,
    TimedOut,
    backoff_s,
    rule_of,
    status_of,
)
from gateway.relay.stream import AsItComes, EndOfStream, Passage, WholeFrames, pump
from gateway.relay.upstream import Message, Reply, Upstream
from gateway.runtime import HandedOverError, Lease, RejectedError, Runtime
from gateway.scheduling.names import Instance, Variant
from gateway.scheduling.types import RejectReason, UnloadAsked
from gateway.surfaces.identity import Caller
from gateway.surfaces.naming import unknown_model
from gateway.surfaces.surface import BadRequestError, Counts, Facts, ParsedRequest, Surface
from gateway.workers.engines import worker_route
from supervisor.contract.fleet import WorkerStatus

_MOST_KEPT_BYTES: Final = 16 * 2**20
"""Of an answer that comes in one piece; a larger one is passed on as it comes."""

_NOBODY_HAS_IT: Final = frozenset({RejectReason.UNKNOWN_MODEL, RejectReason.BARRED})
"""What a request hears that waits for a model of which the last worker that could serve it has gone."""
_MOST_MEANINGS: Final = 8
"""Of one name, while a request for it waits."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class InferenceHandlers:
    """Handlers for the routes of the surfaces."""

    def __init__(  # noqa: PLR0913 -- all that a request meets on its way
        self,
        fleet: Fleet,
        runtime: Runtime,
        upstream: Upstream,
        health: Health,
        failover: Failover,
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
        self._health = health
        self.failover = failover
        self._budget = RetryBudget()
        self._request_timeout_s = request_timeout_s
        self._rng = rng

    def use(self, *, request_timeout_s: float, passes_options: bool) -> None:
        """Go by these with all requests that come from now on."""
        self._contexts = Contexts(self._fleet, passes_options)
        self._request_timeout_s = request_timeout_s

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
        except HandedOverError:
            record.finish("handed over")
            raise
        except (asyncio.CancelledError, ConnectionResetError):
            record.finish("client gone")
            raise
        return response

    async def _answer(
        self, surface: Surface, route: str, request: web.Request, record: RequestRecord
    ) -> web.StreamResponse:
        request[BODY] = await read_body(request)
        arrival = request[ARRIVAL] = request[ARRIVAL].whole(asyncio.get_running_loop().time())
        parsed = surface.parse(route, request[BODY], Caller(request.headers, arrival.address))
        record.parsed(parsed.facts)
        target = await self._fleet.resolve(parsed.facts.model, self._request_timeout_s)
        if target is None:
            raise self._unknown(route, parsed.facts)
        record.model = target.listed
        if parsed.unload_reply is not None:
            return self._unload(target, parsed.unload_reply, record)
        variant, body = await self._aim(surface, parsed, target, record)
        exchange = Exchange(
            request=request,
            surface=surface,
            route=worker_route(route),
            target=target,
            facts=parsed.facts,
            body=body,
            content_type=parsed.content_type,
            variant=variant,
            arrived_at=arrival.at,
            deadline=arrival.at + self._request_timeout_s,
            record=record,
        )
        for _ in range(_MOST_MEANINGS):
            try:
                with _forgotten(exchange), self._fleet.roster.passed.used(exchange.variant):
                    return await self._try(exchange)
            except RejectedError as error:
                if error.rejection.reason not in _NOBODY_HAS_IT:
                    raise
            await self._aim_again(exchange, route, parsed)
        raise self._unknown(route, parsed.facts)

    def _unknown(self, route: str, facts: Facts) -> BadRequestError:
        known = names_in_words(self._fleet.roster.models())
        return BadRequestError(f"{unknown_model(route, facts.model)}; {known}", status=HTTPStatus.NOT_FOUND)

    async def _aim(
        self, surface: Surface, parsed: ParsedRequest, target: Target, record: RequestRecord
    ) -> tuple[Variant, bytes]:
        """Return what the request is to run on, and what its worker is to be sent.

        Raises:
            BadRequestError: it must not be sent to any worker.
        """
        self._contexts.check(surface, target)
        await self._harms.check(parsed.facts, target)
        variant = self._contexts.variant_of(parsed.facts, target, record)
        return variant, body_for(target, variant, parsed, surface)

    async def _aim_again(self, exchange: Exchange, route: str, parsed: ParsedRequest) -> None:
        """Find out what the model's name means by now, while the request waited for what it meant before.

        Raises:
            BadRequestError: 404, nobody has the model any more.
        """
        left_s = max(0.0, exchange.deadline - asyncio.get_running_loop().time())
        target = await self._fleet.resolve(parsed.facts.model, left_s)
        if target is None:
            raise self._unknown(route, parsed.facts)
        exchange.target, exchange.record.model = target, target.listed
        exchange.variant, exchange.body = await self._aim(exchange.surface, parsed, target, exchange.record)

    def _unload(self, target: Target, reply: Mapping[str, Any], record: RequestRecord) -> web.Response:
        for variant in self._fleet.roster.siblings(target.variant):
            self._runtime.feed(UnloadAsked(variant))
        record.finish("done", status=HTTPStatus.OK)
        return _json({**reply, "created_at": datetime.now(UTC).isoformat()}, record)

    async def _try(self, exchange: Exchange) -> web.StreamResponse:
        """Make attempts until one reaches the client, or the time is over."""
        self._budget.asked(asyncio.get_running_loop().time())
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(exchange.may_try_again),
            wait=self._pause_s,
            stop=tenacity.stop_before_delay(self._request_timeout_s),
            reraise=True,
        )
        try:
            return await attempts(self._attempt, exchange)
        except AnswerBrokeError as error:
            return await self.failover.finish(exchange, error.broken)
        except AttemptFailedError as error:
            raise AttemptFailedError(exchange.failure or error.outcome) from error

    def _pause_s(self, state: tenacity.RetryCallState) -> float:
        """Return how long to wait before the next attempt: a backoff, or what the retry budget asks for."""
        error = state.outcome.exception() if state.outcome is not None else None
        costs = isinstance(error, AttemptFailedError) and rule_of(error.outcome).costs
        budget_s = self._budget.reserve(asyncio.get_running_loop().time()) if costs else 0.0
        return max(backoff_s(state.attempt_number, self._rng), budget_s)

    async def _attempt(self, exchange: Exchange) -> web.StreamResponse:
        instance: Instance | None = None
        exchange.barred = self._speakers.unable(exchange.target, exchange.route)
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
            async with self._upstream.open(self._message(exchange, instance, status)) as reply:
                self._began(exchange, lease, reply, asyncio.get_running_loop().time() - sent_at)
                with exchange.request[TURN].breakable(reply.response.close):
                    return await self._relay(exchange, lease, reply)
        except AttemptFailedError as error:
            record.failed_attempt(instance.worker, str(error))
            exchange.failed(instance, error.outcome)
            self._health.failed(instance, error.outcome)
            if isinstance(error.outcome, Refused):
                self._fleet.doubts.doubt(instance, str(error))
            elif isinstance(error.outcome, NoRoute):
                self._speakers.lacks(instance, exchange.route)
            raise

    def _message(self, exchange: Exchange, instance: Instance, status: WorkerStatus) -> Message:
        facts = exchange.facts
        return Message(
            url=status.base_url + exchange.route,
            body=exchange.body,
            content_type=exchange.content_type,
            request_id=exchange.record.id,
            deadline=exchange.deadline,
            first_byte_s=self._health.patience_s(
                instance, exchange.variant, prompt_tokens=facts.prompt_tokens, stream=facts.stream
            ),
            pulse=self._health.pulse_of(instance),
            again_if_stale=not exchange.breaks,
        )

    def _began(self, exchange: Exchange, lease: Lease, reply: Reply, seconds: float) -> None:
        """Tell the scheduler that the prompt is read, and doubt what does not look like that alone."""
        exchange.record.first_byte()
        instance = lease.grant.instance
        self._health.answered(instance)
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
        if not self._speakers.can_serve(status, route):  # it came up while the request waited
            raise AttemptFailedError(NoRoute(f"{instance.worker} does not speak {route}"))
        return status

    async def _relay(self, exchange: Exchange, lease: Lease, reply: Reply) -> web.StreamResponse:
        surface, record = exchange.surface, exchange.record
        streams, echo = exchange.facts.stream and _is_ok(reply), exchange.echo
        end = EndOfStream(surface.final_marks(exchange.route), surface.frame_end)
        if not streams and _is_ok(reply) and (echo is not None or _is_small(reply)):
            return await _whole(exchange, lease, reply, end)
        headers = {**_headers(surface, record), **reply.headers}
        response = web.StreamResponse(status=reply.status, headers=headers)
        response.content_length = reply.content_length if echo is None else None
        heard = self.failover.listener(exchange.route, surface.frame_end) if streams else None
        outgoing = Outgoing(exchange.request, response, heard)
        rewrite = echo.frames if echo is not None else None
        passage: Passage = WholeFrames(surface.frame_end, rewrite) if streams else AsItComes()
        try:
            await pump(reply.chunks(), outgoing.write, end, passage, must_end=streams)
        except StreamFailedError as error:
            parting = exchange.request[TURN].parting
            if not outgoing.begun and not parting:
                raise AttemptFailedError(_before_the_first_byte(error.outcome)) from error
            self._health.failed(lease.grant.instance, error.outcome)
            self._runtime.heed(lease.grant.request, str(error))
            if outgoing.heard is not None and not parting:
                raise AnswerBrokeError(_broken(exchange, lease, outgoing, passage, error)) from error
            if streams:
                await outgoing.send(
                    passage.closing() + surface.error_frame(parting or str(error), end.frames)
                )
            record.finish("broken", status=reply.status, error=str(error))
            return outgoing.abort()
        await outgoing.finish()
        _ended(exchange, lease, reply, end)
        return response


def _broken(
    exchange: Exchange, lease: Lease, outgoing: Outgoing, passage: Passage, error: StreamFailedError
) -> BrokenAnswer:
    """Note which worker broke off, and return what another may go on with."""
    instance, record = lease.grant.instance, exchange.record
    record.failed_attempt(instance.worker, str(error))
    exchange.failed(instance, error.outcome)
    return BrokenAnswer(outgoing, error, instance.worker, record.generating_s(), passage.closing())


async def _whole(exchange: Exchange, lease: Lease, reply: Reply, end: EndOfStream) -> web.Response:
    """Answer with the whole body; until it is there nothing is sent, so that another worker may be asked."""
    try:
        body = b"".join([chunk async for chunk in reply.chunks()])
    except StreamFailedError as error:
        raise AttemptFailedError(_before_the_first_byte(error.outcome)) from error
    mistake = mistake_in(reply.headers["Content-Type"], body)
    if mistake is not None:
        raise AttemptFailedError(Garbage(mistake))
    echo = exchange.echo
    body = body if echo is None else echo.body(body)
    end.add(body)
    _ended(exchange, lease, reply, end)
    headers = {**_headers(exchange.surface, exchange.record), **reply.headers}
    return web.Response(status=reply.status, body=body, headers=headers)


@contextmanager
def _forgotten(exchange: Exchange) -> Iterator[None]:
    """Let go of the request's body when the block ends, however it does.

    Tenacity keeps the exchange in a cycle, and so do a traceback and what it came from: both stay until the
    next collection, which may be thousands of requests away.
    """
    try:
        yield
    except BaseException as error:
        cause: BaseException | None = error
        while cause is not None:
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__cause__ or cause.__context__
        raise
    finally:
        exchange.body = b""


def _before_the_first_byte(outcome: Broken | TimedOut) -> Outcome:
    """Return how an answer failed of which nothing has gone to the client, though some of it had come."""
    if isinstance(outcome, Broken):
        return Broken(0, outcome.why)
    return TimedOut(Phase.FIRST_BYTE, outcome.after_s)


def _is_small(reply: Reply) -> bool:
    """Whether an answer that comes in one piece may be kept until it is whole."""
    return reply.content_length is None or reply.content_length <= _MOST_KEPT_BYTES


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
