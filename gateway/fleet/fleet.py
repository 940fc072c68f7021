"""Keeps roster and scheduler true to the fleet: reads what workers have and hold, loads and unloads.

Decides when a worker is asked and nothing about who runs where. The only writer of the roster, apart from
`moves.py`. Workers are asked seldom: when they come up and for fresh lists of their models
(`catalogues.py`); those that somebody else runs also now and then for what they hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import inf
from typing import Any, Final

import aiohttp
import structlog

from gateway.external.merging import merged
from gateway.fleet.catalogues import Catalogues
from gateway.fleet.doubts import Doubts
from gateway.fleet.moves import Moves, stuck_since
from gateway.fleet.offers import disputed
from gateway.fleet.roster import Held, ModelDetails, ModelRow, Roster, Target, instance_of
from gateway.fleet.views import replica_bounds, residents_of, worker_views
from gateway.scheduling.names import Instance, Variant
from gateway.scheduling.types import Event, FleetChanged, Observed, Resident
from gateway.workers.client import WorkerClient, WorkerRefusedError, WorkerUnreachableError
from supervisor.contract.config import ModelConfig
from supervisor.contract.fleet import FleetSnapshot, WorkerState, WorkerStatus
from supervisor.contract.shell.background_tasks import BackgroundTasks

_log = structlog.get_logger("fleet")

_AGAIN_S: Final = 0.5
"""Before a worker that gave no sensible answer is asked again; doubles while it keeps giving none."""
_MOST_AGAIN_S: Final = 10.0
_ACQUAINT_S: Final = 15.0
"""For what a worker has and holds."""
_FIRST_LIST_S: Final = 1.0
"""For somebody who wants to see lists before there is one."""
_COMING: Final = (WorkerState.STARTING, WorkerState.READY)
_HEADER_S: Final = 4.0
"""For a model's header that a client waits for: clients give up after 10 s."""


class Fleet:
    """The gateway's hands on the workers."""

    def __init__(
        self, session: aiohttp.ClientSession, load_timeout_s: float, wishes: Mapping[str, ModelConfig]
    ) -> None:
        """`connect_to` must be called before the first snapshot."""
        self.roster = Roster(wishes)
        self._session = session
        self._feed: Callable[[Event], None] = lambda _: None
        self._is_quiet: Callable[[Instance], bool] = lambda _: False
        self.on_seen: Callable[[Instance], None] = lambda _: None
        """Told of each process of which was read what it holds, before it may serve."""
        self.doubts = Doubts(partial(self.look_if_quiet, relist=True))
        self._clients: dict[Instance, WorkerClient] = {}
        self._introductions: dict[Instance, asyncio.Task[None]] = {}
        self._closing = BackgroundTasks()
        self._own: FleetSnapshot | None = None
        self._external: tuple[WorkerStatus, ...] = ()
        self._left_out: tuple[str, ...] = ()
        self._disputed: frozenset[tuple[str, str]] = frozenset()
        self._lists_are_new = False
        self.moves = Moves(self.roster, self._client, self.doubts.doubt, load_timeout_s)
        self._changed = asyncio.Event()
        self._catalogues = Catalogues(
            self.roster,
            ask=lambda status: self._client(status).tags(),
            learn=self._learn_list,
            is_moving=self.moves.under_way,
        )

    def connect_to(self, feed: Callable[[Event], None], is_quiet: Callable[[Instance], bool]) -> None:
        """Name the scheduler's entrance, and who knows whether nothing of ours goes on at a worker."""
        self._feed, self._is_quiet = feed, is_quiet

    # Snapshots ------------------------------------------------------------------------

    def on_snapshot(self, snapshot: FleetSnapshot) -> None:
        """Take what the supervisor tells of its workers."""
        before, self._own = self._own, snapshot
        self._merge()
        for instance in stuck_since(before, snapshot):
            self.moves.give_up_stuck(instance)

    @property
    def own(self) -> FleetSnapshot | None:
        """What the supervisor told last; None before that."""
        return self._own

    def on_external(self, statuses: Sequence[WorkerStatus]) -> None:
        """Take what is known of the workers that somebody else runs, whole."""
        self._external = tuple(statuses)
        self._merge()

    def _merge(self) -> None:
        fleet = merged(self._own, self._external)
        if fleet is None:
            return
        if fleet.left_out != self._left_out:
            self._left_out = fleet.left_out
            _log.error("external workers left out: workers here have their names", workers=fleet.left_out)
        self._take(fleet.snapshot)

    def _take(self, snapshot: FleetSnapshot) -> None:
        """Take a new fleet; workers that came up are introduced in the background."""
        self.roster.snapshot = snapshot
        living = {instance_of(status) for status in snapshot.workers}
        self.roster.introduced &= living
        for instance in [i for i in self._clients if i not in living]:
            self._forget(instance)
        self.roster.held = {i: held for i, held in self.roster.held.items() if i in living}
        self.doubts.keep_only(living)
        self._tell_scheduler()
        self._introduce_those_that_came()
        self._tell_waiters()

    def _introduce_those_that_came(self) -> None:
        came = {instance_of(status): status for status in self.roster.awaiting_introduction()}
        for instance in [i for i in self._introductions if i not in came]:
            self._introductions.pop(instance).cancel()
        for instance, status in came.items():
            if instance not in self._introductions:
                task = asyncio.get_running_loop().create_task(self._introduce(status))
                self._introductions[instance] = task
                task.add_done_callback(partial(self._introduced, instance))

    async def retire(self) -> None:
        """Ask workers nothing any more: another gateway loads and unloads there now."""
        self._is_quiet = lambda _: False
        await self.doubts.close()
        for task in self._introductions.values():
            task.cancel()

    async def close(self) -> None:
        """Stop asking and close the connections."""
        await self.doubts.close()
        await self._catalogues.close()
        for task in self._introductions.values():
            task.cancel()
        await asyncio.gather(*self._introductions.values(), return_exceptions=True)
        await asyncio.gather(self._closing.wait(), *(client.close() for client in self._clients.values()))

    async def _introduce(self, status: WorkerStatus) -> None:
        """Read what a new process has and holds, however long it takes, then let it serve."""
        instance, client = instance_of(status), self._client(status)
        again_s = _AGAIN_S
        while True:
            try:
                async with asyncio.timeout(_ACQUAINT_S):
                    tags = await client.tags()
                    residents = await client.residents(status.num_parallel)
                break
            except (WorkerUnreachableError, TimeoutError) as error:
                _log.warning("worker does not answer yet", worker=str(instance), error=str(error))
                await asyncio.sleep(again_s)
                again_s = min(_MOST_AGAIN_S, 2 * again_s)
        self._learn_list(status, tags)
        await self._learn_what_is_there(status, residents)
        # First what it holds, then that it may serve: else a model that is waited for would be loaded there
        # although it is resident.
        self._observed(status, residents)
        self.roster.introduced.add(instance)
        self._tell_scheduler()
        self._tell_waiters()
        limits = {"max_loaded_models": status.max_loaded_models, "memory_bytes": status.memory_bytes}
        _log.info("worker serves", worker=str(instance), num_parallel=status.num_parallel, **limits)

    def _learn_list(self, status: WorkerStatus, tags: Mapping[str, Any]) -> None:
        """Roster and scheduler learn in one step, or a name could be known that nobody seems to serve."""
        if self.roster.learn(status.worker, tags):
            self._tell_scheduler()
            self._lists_are_new = True

    async def _learn_what_is_there(self, status: WorkerStatus, residents: Iterable[str]) -> None:
        """Models that are loaded, or will be unasked, must be known before the scheduler hears of them."""
        kept = (variant for variant, bounds in replica_bounds(self.roster).items() if bounds.least)
        rows = [self.roster.model_on(status.worker, variant) for variant in kept]
        for row in [*rows, *(self.roster.rows_of(status.worker, residents) or [])]:
            if row is not None and self.roster.details_of(row.variant) is None:
                await self._read_details(status, row)

    def _observed(self, status: WorkerStatus, residents: Mapping[str, Resident]) -> None:
        instance, seen = instance_of(status), residents_of(self.roster, status, residents)
        self.roster.held[instance] = {
            v.digest: Held(v, resident.context_length) for v, resident in seen.items()
        }
        self._tell_scheduler()
        self._feed(Observed(instance, seen))
        self.on_seen(instance)

    def _introduced(self, instance: Instance, task: asyncio.Task[None]) -> None:
        if self._introductions.get(instance) is task:
            del self._introductions[instance]

    def leave_out(self, reasons: Mapping[Instance, str]) -> None:
        """Give these processes no requests until told otherwise; those who wait for them may go elsewhere."""
        before, self.roster.tripped = self.roster.tripped, reasons
        if reasons.keys() != before.keys():
            self._tell_scheduler()

    def _tell_scheduler(self) -> None:
        self._feed(FleetChanged(worker_views(self.roster), replica_bounds(self.roster)))

    def _tell_waiters(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # What workers really hold -----------------------------------------------------------

    async def look_if_quiet(self, instance: Instance, *, relist: bool = False) -> bool:
        """Read what a worker holds unless something of ours goes on there; whether it was read.

        With `relist` its list of models is read too.
        """
        return self._is_quiet(instance) and await self._look(instance, relist=relist)

    async def _look(self, instance: Instance, *, relist: bool) -> bool:
        status, moves = self.roster.status(instance), self.moves.begun(instance)
        if status is None or instance not in self.roster.introduced:
            return False
        try:
            async with asyncio.timeout(_ACQUAINT_S):
                residents = await self._client(status).residents(status.num_parallel)
                if relist or self.roster.rows_of(status.worker, residents) is None:
                    self._learn_list(status, await self._client(status).tags())
                await self._learn_what_is_there(status, residents)
        except (WorkerUnreachableError, TimeoutError) as error:
            _log.warning("worker does not tell what it holds", worker=str(instance), error=str(error))
            return False
        if moves != self.moves.begun(instance):
            return False
        self._observed(status, residents)
        return True

    def use(self, wishes: Mapping[str, ModelConfig], load_timeout_s: float) -> None:
        """Go by these from now on."""
        self.moves.timeout_s = load_timeout_s
        self.roster.adopt(wishes)
        self._tell_scheduler()

    # Models ---------------------------------------------------------------------------

    async def resolve(self, name: str, within_s: float) -> Target | None:
        """Return what a model's name or alias stands for; None when no worker has it.

        While workers are still coming up, waits for a name that nobody knows; then looks for it afresh.
        """
        target = self.roster.resolve(name)
        if target is None:
            await self.wait_for(lambda: self._settled() or self.roster.resolve(name) is not None, within_s)
            target = self.roster.resolve(name)
        if target is None:
            await self._catalogues.search(max_age_s=1.0)
            target = self.roster.resolve(name)
        if target is not None and self.roster.details_of(target.variant) is None:
            await self._learn(target.variant)
            target = self.roster.resolve(name)
        return target

    async def wait_until_settled(self) -> None:
        """Return when the models of a worker, and of all that are coming up, are known."""
        await self.wait_for(self._settled, None)

    async def wait_for(self, condition: Callable[[], bool], within_s: float | None) -> None:
        """Return when workers or their lists have changed so that it holds, or the time is over."""
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    await self._changed.wait()
        except TimeoutError:
            _log.warning("no worker came up in time", seconds=within_s)

    def _settled(self) -> bool:
        """Workers may have different stores, so a model that one lacks may be on the next one to come."""
        known = self.roster.catalogues
        return bool(known) and all(s.worker in known for s in self.roster.statuses if s.state in _COMING)

    async def refresh(self, max_age_s: float) -> None:
        """Let the model lists of all workers be no older than that, if they answer within a moment.

        While the first workers are coming up and no list is known at all, waits a little for one.
        """
        if not self.roster.catalogues and any(s.state in _COMING for s in self.roster.statuses):
            await self.wait_for(lambda: bool(self.roster.catalogues), _FIRST_LIST_S)
        await self._catalogues.refresh(max_age_s)
        if self._lists_are_new:
            self._lists_are_new = False
            self._tell_disputes()

    def _tell_disputes(self) -> None:
        """Not while lists are being read: after a pull one store after the other has the new model."""
        found = disputed(self.roster)
        for name, worker in sorted(found - self._disputed):
            _log.warning("a name means different models: make the stores agree", model=name, worker=worker)
        self._disputed = found

    async def store_changed(self, key: str = "") -> None:
        """Look at once at what the workers have, after a model was pulled, created, copied or deleted.

        Returns when all that answer have told; the model with that key, if any, can then be served.
        """
        self._catalogues.store_changed()
        await self._catalogues.search(inf)
        for status in self.roster.ready():
            row = self.roster.catalogues.get(status.worker, {}).get(key)
            if row is not None and self.roster.details_of(row.variant) is None:
                await self._read_details(status, row)

    async def wait_for_stores(self, within_s: float) -> None:
        """Return when some worker can be asked, with lists of models that are fresh."""
        await self.wait_for(lambda: bool(self.roster.ready()), within_s)
        await self._catalogues.search(max_age_s=1.0)

    @contextmanager
    def withdrawn(self, key: str) -> Iterator[None]:
        """Let nobody be given the model as long as the block lasts; those who wait for it are told."""
        self.roster.withdrawn.add(key)
        self._tell_scheduler()
        try:
            yield
        finally:
            self.roster.withdrawn.discard(key)
            self._tell_scheduler()

    def forget_model(self, key: str, workers: Iterable[str]) -> None:
        """Drop a deleted model from the lists, also from those of workers that are not there."""
        for worker in workers:
            self.roster.catalogues.get(worker, {}).pop(key, None)

    async def _learn(self, variant: Variant) -> None:
        """Read a model's header once, so that its memory can be estimated."""
        holder = self.roster.holder(variant)
        if holder is None:
            return
        await self._read_details(*holder)

    async def _read_details(self, status: WorkerStatus, row: ModelRow) -> None:
        try:
            async with asyncio.timeout(_HEADER_S):
                details = await self._client(status).details(row)
        except (WorkerUnreachableError, TimeoutError) as error:
            _log.warning("model not shown; asked again later", model=row.name, error=str(error))
            return
        except WorkerRefusedError as error:
            _log.warning("model cannot be shown; estimated by its file", model=row.name, error=str(error))
            details = ModelDetails({}, embedding=False)
        self.roster.learn_details(row, details)
        self._tell_scheduler()

    def name(self, variant: Variant) -> str:
        """Return what people call the model; its digest when no store has it any more."""
        rows = (self.roster.model_on(status.worker, variant) for status in self.roster.statuses)
        name = next((row.name for row in rows if row is not None), variant.digest[:12])
        if variant not in self.roster.passed:
            return name
        return f"{name} ({', '.join(f'{option} {value}' for option, value in variant.options)})"

    def admit(self, variant: Variant) -> bool:
        """Let a variant that a request brought be served; False when too many of them are in use."""
        if self.roster.knows(variant) and variant not in self.roster.passed:
            return True
        is_new = variant not in self.roster.passed
        admitted = self.roster.passed.admit(variant, self.roster.is_held)
        if admitted and is_new:
            self._tell_scheduler()
        return admitted

    # Loads, as the scheduler orders them -------------------------------------------------

    async def load(self, instance: Instance, variant: Variant) -> Resident:
        """Load a model and return what became of it; raises as `Moves.load` does."""
        return await self.moves.load(instance, variant)

    async def unload(self, instance: Instance, variant: Variant) -> None:
        """Unload a model; returns when it, or the worker, is gone."""
        await self.moves.unload(instance, variant)

    def _client(self, status: WorkerStatus) -> WorkerClient:
        instance = instance_of(status)
        if instance not in self._clients:
            self._clients[instance] = WorkerClient(status.base_url, self._session)
        return self._clients[instance]

    def _forget(self, instance: Instance) -> None:
        self._closing.start(self._clients.pop(instance).close())
