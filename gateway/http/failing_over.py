"""Goes on with a stream whose worker died: a new slot, the rest of the text, one answer for the client.

The order of steps and nothing else; whether an answer can go on and what is asked and told is decided in
`relay.continuation` and `surfaces.continuing`. What cannot go on ends with its surface's error frame.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from random import Random
from typing import Any, Final

import structlog
import tenacity
from aiohttp import web

from gateway.fleet.fleet import Fleet
from gateway.health.watch import Health
from gateway.http.exchange import Exchange
from gateway.http.outgoing import Outgoing
from gateway.http.turn import TURN
from gateway.relay.answers import error_text
from gateway.relay.continuation import (
    MOST_BREAKS,
    Teller,
    Times,
    check_model,
    check_sent,
    complete_ending,
    is_complete,
    tokens_left,
)
from gateway.relay.outcome import (
    AttemptFailedError,
    Broken,
    NotSent,
    StreamFailedError,
    backoff_s,
)
from gateway.relay.stream import EndOfStream, WholeFrames, pump
from gateway.relay.upstream import Message, Reply, Upstream
from gateway.runtime import HandedOverError, Lease, RejectedError, Runtime
from gateway.scheduling.names import NOWHERE, Instance
from gateway.scheduling.types import Arrived
from gateway.surfaces.continuing import CannotContinueError, Task, read_task
from gateway.surfaces.continuing_frames import FRAMES, Ending, Frames, Heard, Sent
from gateway.surfaces.surface import Counts
from supervisor.contract.config import GatewayConfig
from supervisor.contract.fleet import WorkerStatus

_log = structlog.get_logger("request")

_GENERATE: Final = "/api/generate"
_LINE: Final = b"\n"
_LAST_LINE: Final = (b'"done":true',)


class AnswerBrokeError(Exception):
    """A stream broke off of which the client has a part, and somebody may go on."""

    def __init__(self, broken: BrokenAnswer) -> None:
        super().__init__(str(broken.error))
        self.broken = broken


@dataclass(slots=True)
class BrokenAnswer:
    """What is known of such an answer."""

    outgoing: Outgoing
    error: StreamFailedError
    worker: str
    """Which one broke off last."""
    generating_s: float
    """What its workers generated for."""
    closing: bytes = b""
    """What must stand before an error frame."""
    story: list[dict[str, Any]] = field(default_factory=list)
    """Each worker that went on."""

    @property
    def heard(self) -> Heard:
        """What took the answer in."""
        assert self.outgoing.heard is not None
        return self.outgoing.heard

    @property
    def frames(self) -> Frames:
        """Makes further ones."""
        return self.heard.frames

    @property
    def sent(self) -> Sent:
        """What the client has."""
        return self.heard.read()

    def times(self, exchange: Exchange) -> Times:
        """Return what is told of time."""
        return Times(_now() - exchange.arrived_at, self.generating_s)

    def told(self) -> dict[str, Any]:
        """Return what the client is told in a field of the last frame."""
        return {"continued": self.story}


@dataclass(frozen=True, slots=True)
class _Asking:
    """One worker's turn."""

    exchange: Exchange
    broken: BrokenAnswer
    task: Task
    lease: Lease
    deadline: float
    """Until when it must have begun, in event-loop seconds."""

    def noted(self) -> None:
        """Tell log and client that it goes on."""
        broken, worker = self.broken, self.lease.grant.instance.worker
        step = {"from": broken.worker, "to": worker, "after_tokens": broken.sent.tokens}
        broken.story.append(step)
        self.exchange.record.went_on(worker, step)
        _log.warning("answer goes on", id=self.exchange.record.id, error=str(broken.error), **step)


class Failover:
    """Goes on with answers."""

    def __init__(
        self,
        fleet: Fleet,
        runtime: Runtime,
        upstream: Upstream,
        health: Health,
        limits: GatewayConfig,
        rng: Random,
    ) -> None:
        """`rng` spreads retries."""
        self._fleet = fleet
        self._runtime = runtime
        self._upstream = upstream
        self._health = health
        self._rng = rng
        self.use(limits)

    def use(self, limits: GatewayConfig) -> None:
        """Go by these from now on: a client waits as long for the next piece as for that of a slow worker."""
        self._goes_on = limits.failover == "continue"
        self._longest_pause_s = min(limits.idle_timeout, limits.request_timeout)

    def listener(self, route: str, frame_end: bytes) -> Heard | None:
        """Return what takes in a route's stream; None where it could not go on anyway."""
        frames = FRAMES.get(route) if self._goes_on else None
        return None if frames is None else Heard(frames(), frame_end)

    async def finish(self, exchange: Exchange, broken: BrokenAnswer) -> web.StreamResponse:
        """Send the rest of the answer, or the error that it ends with."""
        why = f"it broke off {MOST_BREAKS} times"
        for _ in range(MOST_BREAKS - 1):
            try:
                ending = await self._go_on(exchange, broken)
            except StreamFailedError as error:
                broken.error = error
            except (CannotContinueError, AttemptFailedError, RejectedError) as error:
                why = str(error)
                break
            except HandedOverError:
                why = "another gateway gives the slots now"
                break
            except asyncio.CancelledError:
                why = exchange.request[TURN].parting
                if not why:
                    raise
                break
            else:
                return await self._end(exchange, broken, ending)
        return await self._give_up(exchange, broken, why)

    async def _end(self, exchange: Exchange, broken: BrokenAnswer, ending: Ending) -> web.StreamResponse:
        await broken.outgoing.send(broken.frames.end(ending))
        response = await broken.outgoing.finish()
        counts = Counts(ending.output_tokens, ending.prompt_tokens)
        exchange.record.finish("done", status=HTTPStatus.OK, counts=counts)
        return response

    async def _give_up(self, exchange: Exchange, broken: BrokenAnswer, why: str) -> web.StreamResponse:
        text = f"{broken.error}; it could not go on elsewhere: {why}"
        frame = exchange.surface.error_frame(text, broken.sent.tokens)
        exchange.record.finish("broken", status=HTTPStatus.OK, error=text)
        await broken.outgoing.send(broken.closing + frame)
        return broken.outgoing.abort()

    async def _go_on(self, exchange: Exchange, broken: BrokenAnswer) -> Ending:
        """Have one worker go on, and return how the answer ends.

        Raises:
            StreamFailedError: it broke off again.
            CannotContinueError: nobody can.
            AttemptFailedError: no worker began within the time.
            RejectedError: there is no slot.
        """
        sent = broken.sent
        task = read_task(exchange.route, exchange.body, sent_tokens=sent.tokens)
        check_sent(sent)
        if is_complete(task, sent):
            return self._complete(exchange, broken, task)
        pause_s = self._longest_pause_s
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(exchange.may_try_again),
            wait=lambda state: backoff_s(state.attempt_number, self._rng),
            stop=tenacity.stop_before_delay(pause_s),
            reraise=True,
        )
        return await attempts(self._attempt, exchange, broken, task, _now() + pause_s)

    def _complete(self, exchange: Exchange, broken: BrokenAnswer, task: Task) -> Ending:
        step = {"from": broken.worker, "after_tokens": broken.sent.tokens}
        broken.story.append(step)
        exchange.record.went_on(broken.worker, step)
        _log.warning("answer was complete", id=exchange.record.id, error=str(broken.error), **step)
        return complete_ending(
            broken.sent,
            broken.times(exchange),
            broken.told(),
            prompt_tokens=exchange.facts.prompt_tokens,
            include_usage=task.include_usage,
        )

    async def _attempt(self, exchange: Exchange, broken: BrokenAnswer, task: Task, deadline: float) -> Ending:
        instance: Instance | None = None
        try:
            async with self._runtime.lease(self._arrival(exchange, broken, deadline)) as lease:
                instance = lease.grant.instance
                return await self._ask(_Asking(exchange, broken, task, lease, deadline))
        finally:
            if instance is not None:
                self._fleet.doubts.quieted(instance)

    @staticmethod
    def _arrival(exchange: Exchange, broken: BrokenAnswer, deadline: float) -> Arrived:
        """Return the event of a request that comes back, and so goes before those that come new.

        All speak the route on which it goes on.
        """
        arrival = exchange.arrival()
        tokens = arrival.prompt_tokens + broken.sent.tokens
        return replace(arrival, barred=NOWHERE, deadline=deadline, prompt_tokens=tokens)

    async def _ask(self, asking: _Asking) -> Ending:
        exchange, instance = asking.exchange, asking.lease.grant.instance
        exchange.record.granted_again(asking.lease.grant)
        try:
            return await self._answer(asking)
        except (AttemptFailedError, StreamFailedError) as error:
            exchange.record.failed_attempt(instance.worker, str(error))
            exchange.failed(instance, error.outcome)
            self._health.failed(instance, error.outcome)
            if isinstance(error, StreamFailedError):
                self._runtime.heed(asking.lease.grant.request, str(error))
                asking.broken.worker = instance.worker
            raise

    async def _answer(self, asking: _Asking) -> Ending:
        exchange, broken, task = asking.exchange, asking.broken, asking.task
        status = self._fleet.roster.status(asking.lease.grant.instance)
        if status is None or not status.base_url:
            raise AttemptFailedError(NotSent(f"{asking.lease.grant.instance} is gone"))
        name = exchange.target.name
        shown = await self._told(asking, status, "/api/show", {"model": name})
        check_model(task, status.engine, shown)
        left = tokens_left(task, broken.sent, shown)
        if left == 0:
            return self._complete(exchange, broken, task)
        text = await self._prompt(asking, status) + broken.sent.text
        body = json.dumps(task.continuing(name, text, left)).encode()
        async with self._open(asking, status, _GENERATE, body) as reply:
            if reply.status != HTTPStatus.OK:
                raise CannotContinueError(error_text(await _whole(reply)))
            return await self._relay(asking, reply)

    async def _relay(self, asking: _Asking, reply: Reply) -> Ending:
        exchange, broken, lease = asking.exchange, asking.broken, asking.lease
        self._health.answered(lease.grant.instance)
        self._runtime.answering(lease)
        asking.noted()
        began, teller = _now(), Teller(broken.frames)

        async def tell(lines: bytes) -> None:
            for frame in teller.tell(lines):
                await broken.outgoing.send(frame)

        try:
            end = EndOfStream(_LAST_LINE, _LINE)
            with exchange.request[TURN].breakable(reply.response.close):
                await pump(reply.chunks(), tell, end, WholeFrames(_LINE), must_end=True)
        finally:
            if not teller.last:
                broken.generating_s += _now() - began
        lease.ended_well = True
        lease.output_tokens = teller.last.get("eval_count")
        lease.prompt_tokens = teller.last.get("prompt_eval_count")
        return teller.ending(broken.times(exchange), broken.told(), include_usage=asking.task.include_usage)

    async def _prompt(self, asking: _Asking, status: WorkerStatus) -> str:
        """Return the prompt as the worker renders it."""
        task = asking.task
        if task.prompt is not None:
            return task.prompt
        told = await self._told(asking, status, task.route, task.rendering())
        rendered = (told.get("_debug_info") or {}).get("rendered_template")
        if not isinstance(rendered, str):
            raise CannotContinueError(f"{status.worker} does not tell how it renders a prompt")
        return rendered

    async def _told(
        self, asking: _Asking, status: WorkerStatus, route: str, question: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return the object that a worker answers."""
        async with self._open(asking, status, route, json.dumps(question).encode()) as reply:
            body = await _whole(reply)
        if reply.status != HTTPStatus.OK:
            raise CannotContinueError(error_text(body))
        try:
            told = json.loads(body)
        except ValueError as error:
            raise CannotContinueError(f"{status.worker} answers {route} with no JSON") from error
        return told if isinstance(told, dict) else {}

    def _open(
        self, asking: _Asking, status: WorkerStatus, route: str, body: bytes
    ) -> AbstractAsyncContextManager[Reply]:
        exchange, instance = asking.exchange, asking.lease.grant.instance
        tokens = exchange.facts.prompt_tokens + asking.broken.sent.tokens
        message = Message(
            url=status.base_url + route,
            body=body,
            content_type="application/json",
            request_id=exchange.record.id,
            deadline=asking.deadline,
            first_byte_s=self._health.patience_s(
                instance, exchange.variant, prompt_tokens=tokens, stream=True
            ),
            pulse=self._health.pulse_of(instance),
            again_if_stale=False,
        )
        return self._upstream.open(message)


async def _whole(reply: Reply) -> bytes:
    """Return the whole body.

    Raises:
        AttemptFailedError: it broke off.
    """
    try:
        return b"".join([chunk async for chunk in reply.chunks()])
    except StreamFailedError as error:
        raise AttemptFailedError(Broken(0, str(error))) from error


def _now() -> float:
    return asyncio.get_running_loop().time()
