"""Carries operations on the model stores out: who asks which worker, when, and what comes after.

An operation is a task of the gateway's own that clients follow; a second pull of a model joins the first.
Whatever was changed is looked at anew everywhere before anybody hears `success`. `store/` decides what may be
done and where; must not know how a model leaves the memories (`leaving.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from http import HTTPStatus
from typing import Final

import aiohttp
import structlog

from gateway.fleet.departures import Departures
from gateway.fleet.fleet import Fleet
from gateway.runtime import HandedOverError
from gateway.store.joining import Follower, joins_by, outlives_its_clients
from gateway.store.merging import Failure, Merge, Told, status_line
from gateway.store.planning import Plan, RefusedError, addressed, may_resume, needs, overwrites, plan
from gateway.store.requests import Kind, StoreRequest
from gateway.store.sharing import Member, Store, writer
from gateway.stores.leaving import Leaving
from gateway.stores.sharers import COMING_S, Sharers
from gateway.stores.undertaking import Undertaking
from gateway.workers.client import WorkerUnreachableError
from gateway.workers.store import asked
from supervisor.contract.shell.background_tasks import BackgroundTasks

_log = structlog.get_logger("store")

_AGAIN_S: Final = 0.5
"""Before the same worker is asked again; doubles with each time nothing moved."""


class Stores:
    """All operations of one gateway."""

    def __init__(self, fleet: Fleet, departures: Departures, session: aiohttp.ClientSession) -> None:
        """Share the gateway's session."""
        self.sharers = Sharers(fleet, departures)
        self._fleet = fleet
        self._session = session
        self._joinable: dict[str, Undertaking] = {}
        self._tasks = BackgroundTasks()
        self._leaving = Leaving(fleet, departures, self.sharers, session, self._tasks)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Clean up what an earlier gateway left, and let nothing go on after the block."""
        self._tasks.start(self._leaving.retire_leftovers())
        try:
            yield
        finally:
            await self._tasks.close()

    @asynccontextmanager
    async def following(
        self, request: StoreRequest, request_id: str
    ) -> AsyncIterator[tuple[Undertaking, Follower]]:
        """Begin an operation, or join it; when its last follower leaves, it is given up.

        Raises:
            RefusedError: the configuration forbids it.
        """
        undertaking = self._joined(addressed(request, self._fleet.roster.wishes))
        undertaking.ids.append(request_id)
        follower = undertaking.broadcast.follow()
        try:
            yield undertaking, follower
        finally:
            if undertaking.broadcast.leave(follower) and not outlives_its_clients(undertaking.request):
                self._forget(undertaking)
                if undertaking.task is not None:
                    undertaking.task.cancel()

    # One operation --------------------------------------------------------------------

    def _joined(self, request: StoreRequest) -> Undertaking:
        key = joins_by(request)
        under_way = self._joinable.get(key) if key is not None else None
        if under_way is not None:
            return under_way
        undertaking = Undertaking(request, key)
        if key is not None:
            self._joinable[key] = undertaking
        undertaking.task = self._tasks.start(self._run(undertaking))
        return undertaking

    def _forget(self, undertaking: Undertaking) -> None:
        """Whoever asks from now on begins anew."""
        key = undertaking.joins_by
        if key is not None and self._joinable.get(key) is undertaking:
            del self._joinable[key]

    async def _run(self, undertaking: Undertaking) -> None:
        failure: Failure | None = Failure(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error in the gateway")
        try:
            failure = await self._carry_out(undertaking)
        except RefusedError as error:
            failure = Failure(error.status, error.message)
        except HandedOverError:  # while a model was to leave memory, which is before anything is done
            failure, undertaking.handed_over = None, True
        except asyncio.CancelledError:
            failure = Failure(HTTPStatus.INTERNAL_SERVER_ERROR, "given up: all clients left")
            raise
        finally:
            self._forget(undertaking)
            undertaking.end(failure)
            _tell_log(undertaking, failure)

    async def _carry_out(self, undertaking: Undertaking) -> Failure | None:
        request = undertaking.request
        where = plan(request, await self.sharers.known())
        forgives = {HTTPStatus.NOT_FOUND} if request.kind is Kind.DELETE else set()
        merge = Merge([store.workers for store in (*where.stores, *_must_come(request, where))], forgives)
        self._tell_of_absent(undertaking, where, merge)
        async with AsyncExitStack() as stack:
            if request.kind is Kind.DELETE:
                await self._leaving.withdraw(request, where, stack)
            elif overwrites(request):
                await self._leaving.stand_in(request, where, stack)
            await asyncio.gather(*(self._do_at(store, undertaking, merge) for store in where.stores))
        return merge.verdict()

    def _tell_of_absent(self, undertaking: Undertaking, where: Plan, merge: Merge) -> None:
        """Where a model could not be deleted it comes back with its worker, so that is a failure."""
        for store in where.absent:
            if undertaking.request.kind is Kind.DELETE:
                text = "is not there; what it has comes back with it, so delete again then"
                merge.failed(store.workers, Failure(HTTPStatus.SERVICE_UNAVAILABLE, text))
            else:
                status = f"left out: {store.workers} is not there"
                undertaking.tell([Told(status, status_line(status))])

    async def _do_at(self, store: Store, undertaking: Undertaking, merge: Merge) -> None:
        """Have one store changed, if need be by one worker after another, and let the change be seen."""
        try:
            await self._ask_until_answered(store, undertaking, merge)
        finally:
            if store.workers in merge.done and undertaking.request.kind is Kind.DELETE:
                workers = [member.worker for member in store.members]
                self._fleet.forget_model(undertaking.request.key, workers)
            await asyncio.shield(self._tasks.start(self._fleet.store_changed(undertaking.request.key)))

    async def _ask_until_answered(self, store: Store, undertaking: Undertaking, merge: Merge) -> None:
        request, breaks, avoid = undertaking.request, 0, set[str]()
        while True:
            before = merge.completed
            member = await self._writer(store, request, avoid)
            if member is None:
                failure = Failure(HTTPStatus.SERVICE_UNAVAILABLE, f"no worker of {store.workers} came up")
                return undertaking.tell(merge.failed(store.workers, failure))
            try:
                async with self._undisturbed(store, request):
                    return await self._ask(member, store, undertaking, merge)
            except WorkerUnreachableError as error:
                _log.warning("worker broke off", op=str(request.kind), worker=member.worker, error=str(error))
            breaks = 1 if merge.completed > before else breaks + 1
            if not may_resume(request, breaks):
                failure = Failure(HTTPStatus.BAD_GATEWAY, f"worker {member.worker} broke off")
                return undertaking.tell(merge.failed(store.workers, failure))
            if member.worker in avoid or len(store.members) == 1:
                await asyncio.sleep(_AGAIN_S * 2**breaks)
            avoid.add(member.worker)

    async def _writer(self, store: Store, request: StoreRequest, avoid: set[str]) -> Member | None:
        """Wait until somebody can change the store, and return who is to."""
        found: Member | None = None

        def is_there() -> bool:
            nonlocal found
            current = self.sharers.current(store)
            found = writer(current, holding=needs(request, current), avoid=avoid)
            return found is not None

        if not is_there():
            await self._fleet.wait_for(is_there, COMING_S)
        return found

    def _undisturbed(self, store: Store, request: StoreRequest) -> AbstractAsyncContextManager[None]:
        """A pull and a push name their model only, and may take hours."""
        if request.kind in {Kind.PULL, Kind.PUSH}:
            return nullcontext()
        return self._leaving.quiet.operation(store.key)

    async def _ask(self, member: Member, store: Store, undertaking: Undertaking, merge: Merge) -> None:
        request, name = undertaking.request, store.workers
        undertaking.workers.append(member.worker)
        method = "DELETE" if request.kind is Kind.DELETE else "POST"
        url = self.sharers.base_url(member.worker) + request.path
        async with asked(self._session, method, url, request.body) as answer:
            if answer.status != HTTPStatus.OK:
                return undertaking.tell(merge.failed(name, Failure(*await answer.refusal())))
            async for line in answer.lines():
                undertaking.tell(merge.line(name, line))
        if not request.shows_progress:
            undertaking.tell(merge.ended(name))
        elif name not in merge.done and name not in merge.failures:
            raise WorkerUnreachableError(f"{member.worker} ended its answer without a last line")
        return None


def _must_come(request: StoreRequest, where: Plan) -> tuple[Store, ...]:
    return where.absent if request.kind is Kind.DELETE else ()


def _tell_log(undertaking: Undertaking, failure: Failure | None) -> None:
    request = undertaking.request
    log = _log.info if failure is None else _log.warning
    log(
        "store",
        ids=undertaking.ids,
        op=str(request.kind),
        model=request.model,
        source=request.source or None,
        workers=undertaking.workers,
        outcome="handed over" if undertaking.handed_over else "done" if failure is None else "failed",
        error=None if failure is None else failure.text,
        total_s=round(asyncio.get_running_loop().time() - undertaking.began_at, 4),
    )
