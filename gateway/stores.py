"""Carries operations on the model stores out: who asks which worker, when, and what comes after.

The shell of `gateway/store/`, which decides. An operation is a task of the gateway's own that clients
follow; a second pull of a model joins the first. Whatever was changed is looked at anew everywhere before
anybody hears `success`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import structlog

from gateway.fleet.departures import Departures, Place
from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import instance_of
from gateway.store.joining import Broadcast, Follower, joins_by, outlives_its_clients
from gateway.store.merging import Failure, Merge, Told, status_line
from gateway.store.outgoing import is_stand_in, stand_in_for
from gateway.store.planning import Plan, RefusedError, addressed, may_resume, needs, overwrites, plan
from gateway.store.requests import Kind, StoreRequest, identity
from gateway.store.sharing import Member, Store, store_of, stores, writer
from gateway.workers.client import WorkerUnreachableError
from gateway.workers.store import asked
from supervisor.contract.shell.background_tasks import BackgroundTasks

_log = structlog.get_logger("store")

_COMING_S: Final = 60.0
"""For a worker to come up, at the start or after the one that did the work went away."""
_UNLOAD_S: Final = 60.0
"""For the answers of a model that is to be deleted to end."""
_OUTGOING_S: Final = 3600.0
"""For those of a model that was replaced; its weights stay in the store until then."""
_AGAIN_S: Final = 0.5
"""Before the same worker is asked again; doubles with each time nothing moved."""


@dataclass(slots=True, eq=False)
class Undertaking:
    """One operation under way."""

    request: StoreRequest
    joins_by: str | None
    broadcast: Broadcast = field(default_factory=Broadcast)
    failure: Failure | None = None
    ended: bool = False
    ids: list[str] = field(default_factory=list)
    """Of the requests for it."""
    workers: list[str] = field(default_factory=list)
    """Those that were asked to do it."""
    began_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    task: asyncio.Task[None] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, told: Iterable[Told]) -> None:
        """Have all followers hear this."""
        for line in told:
            self.broadcast.tell(line)
        self._wake()

    def end(self, failure: Failure | None) -> None:
        """Say how it ended."""
        self.failure, self.ended = failure, True
        self._wake()

    async def lines(self, follower: Follower) -> AsyncIterator[bytes]:
        """Yield what there is to tell, as it comes, until the end."""
        while True:
            news, lines = self._news, follower.take()
            if lines:
                yield lines
            elif self.ended:
                return
            else:
                await news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Quiet:
    """Keeps what clients ask of a store and the removal of second names in it apart.

    An Ollama looks through all names at the start of most operations, and fails when one vanishes meanwhile.
    """

    def __init__(self) -> None:
        self._under_way: Counter[str] = Counter()
        self._alone: set[str] = set()
        self._moved = asyncio.Event()

    @asynccontextmanager
    async def operation(self, store: str) -> AsyncIterator[None]:
        """Wait until no name is being removed; then none is until the end of the block."""
        while store in self._alone:
            await self._moved.wait()
        self._under_way[store] += 1
        try:
            yield
        finally:
            self._under_way[store] -= 1
            self._move()

    @asynccontextmanager
    async def removal(self, store: str) -> AsyncIterator[None]:
        """Wait until nothing is under way; then nothing begins until the end of the block."""
        while self._under_way[store] or store in self._alone:
            await self._moved.wait()
        self._alone.add(store)
        try:
            yield
        finally:
            self._alone.discard(store)
            self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


class Stores:
    """All operations of one gateway."""

    def __init__(self, fleet: Fleet, departures: Departures, session: aiohttp.ClientSession) -> None:
        """Share the gateway's session."""
        self._fleet = fleet
        self._departures = departures
        self._session = session
        self._joinable: dict[str, Undertaking] = {}
        self._tasks = BackgroundTasks()
        self._outgoing: set[tuple[str, str]] = set()
        """Store and second name of models that are being replaced, or were and are not gone yet."""
        self._quiet = Quiet()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Clean up what an earlier gateway left, and let nothing go on after the block."""
        self._tasks.start(self._retire_leftovers())
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

    def members(self) -> list[Member]:
        """Return all workers as far as their stores are concerned."""
        roster, busy = self._fleet.roster, self._departures.busy_on()
        ready = {instance_of(status) for status in roster.ready()}
        return [
            Member(
                worker=status.worker,
                store=store_of(status),
                ready=instance_of(status) in ready,
                prunes=status.prunes,
                busy=busy.get(status.worker, 0),
                has=roster.catalogues.get(status.worker, {}).keys(),
                serves=None if status.models is None else frozenset(map(identity, status.models)),
            )
            for status in roster.statuses
        ]

    async def known(self) -> tuple[Store, ...]:
        """Return the stores, once somebody can be asked, with lists that are fresh."""
        await self._fleet.wait_for_stores(_COMING_S)
        return stores(self.members())

    def base_url(self, worker: str) -> str:
        """Return where a worker answers; empty when it went away, and nobody answers there."""
        return next((s.base_url for s in self._fleet.roster.statuses if s.worker == worker), "")

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
        except asyncio.CancelledError:
            failure = Failure(HTTPStatus.INTERNAL_SERVER_ERROR, "given up: all clients left")
            raise
        finally:
            self._forget(undertaking)
            undertaking.end(failure)
            _tell_log(undertaking, failure)

    async def _carry_out(self, undertaking: Undertaking) -> Failure | None:
        request = undertaking.request
        where = plan(request, await self.known())
        forgives = {HTTPStatus.NOT_FOUND} if request.kind is Kind.DELETE else set()
        merge = Merge([store.workers for store in (*where.stores, *_must_come(request, where))], forgives)
        self._tell_of_absent(undertaking, where, merge)
        async with AsyncExitStack() as stack:
            if request.kind is Kind.DELETE:
                await self._withdraw(request, where, stack)
            elif overwrites(request):
                await self._stand_in(request, where, stack)
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
            current = self._current(store)
            found = writer(current, holding=needs(request, current), avoid=avoid)
            return found is not None

        if not is_there():
            await self._fleet.wait_for(is_there, _COMING_S)
        return found

    def _current(self, store: Store) -> Store:
        """Return the store as it is now."""
        return next((s for s in stores(self.members()) if s.key == store.key), store)

    def _undisturbed(self, store: Store, request: StoreRequest) -> AbstractAsyncContextManager[None]:
        """A pull and a push name their model only, and may take hours."""
        if request.kind in {Kind.PULL, Kind.PUSH}:
            return nullcontext()
        return self._quiet.operation(store.key)

    async def _ask(self, member: Member, store: Store, undertaking: Undertaking, merge: Merge) -> None:
        request, name = undertaking.request, store.workers
        undertaking.workers.append(member.worker)
        method = "DELETE" if request.kind is Kind.DELETE else "POST"
        url = self.base_url(member.worker) + request.path
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

    # What has to leave memory ------------------------------------------------------------

    async def _withdraw(self, request: StoreRequest, where: Plan, stack: AsyncExitStack) -> None:
        """Serve the model no more, and wait until its last answer ended and no worker holds it."""
        roster = self._fleet.roster
        if request.key in roster.withdrawn:
            raise RefusedError(HTTPStatus.CONFLICT, f"{request.model} is being deleted already")
        workers = [member.worker for store in where.stores for member in store.members]
        places = self._departures.places_of(request.key, workers)
        stack.enter_context(self._fleet.withdrawn(request.key))
        if not await self._departures.leave(places, _UNLOAD_S):
            busy = ", ".join(
                f"{count} on {worker}" for worker, count in self._departures.busy(places).items()
            )
            text = f"model '{request.model}' still computes answers ({busy or 'it is being unloaded'})"
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{text}: delete it again when they have ended"
            )

    async def _stand_in(self, request: StoreRequest, where: Plan, stack: AsyncExitStack) -> None:
        """Give what the name stands for now a second name, so that it can still be unloaded afterwards."""
        for store in where.stores:
            listed = self._listed(store, request.key)
            member = writer(store, holding=request.key)
            if listed is None or member is None:
                continue
            name = stand_in_for(request.key, listed)
            mark = (store.key, identity(name))
            if mark in self._outgoing:
                continue
            copy = {"source": request.model, "destination": name}
            async with self._quiet.operation(store.key):
                copied = await self._asked_aside(member, "POST", "/api/copy", copy)
            if copied:
                self._outgoing.add(mark)
                self._fleet.roster.stand_ins[identity(name)] = request.key
                stack.callback(self._start_retiring, store, name)

    def _listed(self, store: Store, key: str) -> str | None:
        """Return what the model is listed as in the store; None when it is not there."""
        catalogues = self._fleet.roster.catalogues
        rows = (catalogues.get(member.worker, {}).get(key) for member in store.members)
        return next((row.listed_as for row in rows if row is not None), None)

    def _start_retiring(self, store: Store, name: str) -> None:
        self._tasks.start(self._retire(store, name))

    async def _retire(self, store: Store, name: str) -> None:
        """Delete a second name once the weights behind it have left all memories, or have another name."""
        key, workers = identity(name), [member.worker for member in store.members]
        try:
            await self._fleet.store_changed()
            places = self._departures.places_of(key, workers)
            if not await self._departures.leave(places, _OUTGOING_S):
                _log.warning("a replaced model is still in memory", workers=workers, busy=_told(places))
                return  # the next gateway tries again
            async with self._quiet.removal(store.key):
                member = writer(self._current(store), holding=key)
                gone = member is not None and await self._asked_aside(
                    member, "DELETE", "/api/delete", {"model": name}
                )
            if gone:
                self._fleet.forget_model(key, workers)
                await self._fleet.store_changed()
        finally:
            self._outgoing.discard((store.key, key))

    async def _retire_leftovers(self) -> None:
        """Delete second names that a gateway which was killed has left."""
        await self._fleet.wait_until_settled()
        for store in stores(self.members()):
            held = {key for member in store.members for key in member.has}
            for key in filter(is_stand_in, held):
                if (store.key, key) not in self._outgoing:
                    await self._retire(store, key)

    async def _asked_aside(self, member: Member, method: str, path: str, body: dict[str, Any]) -> bool:
        """Ask a worker for something that no client hears of; whether it was done."""
        try:
            url = self.base_url(member.worker) + path
            async with asked(self._session, method, url, body) as answer:
                if answer.status == HTTPStatus.OK:
                    return True
                status, error = await answer.refusal()
        except WorkerUnreachableError as failure:
            status, error = HTTPStatus.BAD_GATEWAY, str(failure)
        _log.warning("second name of a replaced model", worker=member.worker, status=status, error=error)
        return False


def _must_come(request: StoreRequest, where: Plan) -> tuple[Store, ...]:
    return where.absent if request.kind is Kind.DELETE else ()


def _told(places: Iterable[Place]) -> list[str]:
    return [f"{place.digest[:19]} on {place.worker}" for place in places]


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
        outcome="done" if failure is None else "failed",
        error=None if failure is None else failure.text,
        total_s=round(asyncio.get_running_loop().time() - undertaking.began_at, 4),
    )
