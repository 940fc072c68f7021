"""Models that have to leave all memories, because they are deleted or because others take their names.

The shell of `store/outgoing.py`, which says under which second name a replaced model stays within reach. Must
not know who asked for it, nor what is done to the store meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import structlog

from gateway.fleet.departures import Departures, Place
from gateway.fleet.fleet import Fleet
from gateway.runtime import HandedOverError
from gateway.store.outgoing import is_stand_in, stand_in_for
from gateway.store.planning import Plan, RefusedError
from gateway.store.requests import StoreRequest, identity
from gateway.store.sharing import Member, Store, stores, writer
from gateway.stores.sharers import Sharers
from gateway.workers.client import WorkerUnreachableError
from gateway.workers.store import asked
from supervisor.contract.shell.background_tasks import BackgroundTasks

_log = structlog.get_logger("store")

_UNLOAD_S: Final = 60.0
"""For the answers of a model that is to be deleted to end."""
_OUTGOING_S: Final = 3600.0
"""For those of a model that was replaced; its weights stay in the store until then."""


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


@dataclass(slots=True)
class Leaving:
    """All models that are on their way out."""

    fleet: Fleet
    departures: Departures
    sharers: Sharers
    session: aiohttp.ClientSession
    tasks: BackgroundTasks
    """Ended by their owner."""
    quiet: Quiet = field(default_factory=Quiet)
    _outgoing: set[tuple[str, str]] = field(default_factory=set)
    """Store and second name of models that are being replaced, or were and are not gone yet."""

    async def withdraw(self, request: StoreRequest, where: Plan, stack: AsyncExitStack) -> None:
        """Serve the model no more, and wait until its last answer ended and no worker holds it."""
        roster = self.fleet.roster
        if request.key in roster.withdrawn:
            raise RefusedError(HTTPStatus.CONFLICT, f"{request.model} is being deleted already")
        workers = [member.worker for store in where.stores for member in store.members]
        places = self.departures.places_of(request.key, workers)
        stack.enter_context(self.fleet.withdrawn(request.key))
        if not await self.departures.leave(places, _UNLOAD_S):
            busy = ", ".join(f"{count} on {worker}" for worker, count in self.departures.busy(places).items())
            text = f"model '{request.model}' still computes answers ({busy or 'it is being unloaded'})"
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{text}: delete it again when they have ended"
            )

    async def stand_in(self, request: StoreRequest, where: Plan, stack: AsyncExitStack) -> None:
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
            async with self.quiet.operation(store.key):
                copied = await self._asked_aside(member, "POST", "/api/copy", copy)
            if copied:
                self._outgoing.add(mark)
                self.fleet.roster.stand_ins[identity(name)] = request.key
                stack.callback(self._start_retiring, store, name)

    def _listed(self, store: Store, key: str) -> str | None:
        """Return what the model is listed as in the store; None when it is not there."""
        catalogues = self.fleet.roster.catalogues
        rows = (catalogues.get(member.worker, {}).get(key) for member in store.members)
        return next((row.listed_as for row in rows if row is not None), None)

    def _start_retiring(self, store: Store, name: str) -> None:
        self.tasks.start(self._retire(store, name))

    async def _retire(self, store: Store, name: str) -> None:
        """Delete a second name once the weights behind it have left all memories, or have another name."""
        key, workers = identity(name), [member.worker for member in store.members]
        try:
            await self.fleet.store_changed()
            places = self.departures.places_of(key, workers)
            if not await self.departures.leave(places, _OUTGOING_S):
                _log.warning("a replaced model is still in memory", workers=workers, busy=_told(places))
                return  # the next gateway tries again
            async with self.quiet.removal(store.key):
                member = writer(self.sharers.current(store), holding=key)
                gone = member is not None and await self._asked_aside(
                    member, "DELETE", "/api/delete", {"model": name}
                )
            if gone:
                self.fleet.forget_model(key, workers)
                await self.fleet.store_changed()
        except HandedOverError:
            """The next gateway finds the name in the lists."""
        finally:
            self._outgoing.discard((store.key, key))

    async def retire_leftovers(self) -> None:
        """Delete second names that a gateway which was killed has left."""
        await self.fleet.wait_until_settled()
        for store in stores(self.sharers.members()):
            held = {key for member in store.members for key in member.has}
            for key in filter(is_stand_in, held):
                if (store.key, key) not in self._outgoing:
                    await self._retire(store, key)

    async def _asked_aside(self, member: Member, method: str, path: str, body: dict[str, Any]) -> bool:
        """Ask a worker for something that no client hears of; whether it was done."""
        try:
            url = self.sharers.base_url(member.worker) + path
            async with asked(self.session, method, url, body) as answer:
                if answer.status == HTTPStatus.OK:
                    return True
                status, error = await answer.refusal()
        except WorkerUnreachableError as failure:
            status, error = HTTPStatus.BAD_GATEWAY, str(failure)
        _log.warning("second name of a replaced model", worker=member.worker, status=status, error=error)
        return False


def _told(places: Iterable[Place]) -> list[str]:
    return [f"{place.digest[:19]} on {place.worker}" for place in places]
