"""Wires the gateway together: real clock, sockets, signals. Decides nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import structlog
from aiohttp import web

from gateway import host
from gateway.ending import Ending
from gateway.external.health import USUAL, Timings
from gateway.external.merging import NO_SUPERVISOR
from gateway.fleet.departures import Departures
from gateway.fleet.external_link import ExternalLink, Surroundings
from gateway.fleet.fleet import Fleet
from gateway.fleet.link import Reports, follow
from gateway.fleet.reporting import Reporting
from gateway.fleet.shown import Shows
from gateway.handover.forwarding import Forwarding
from gateway.handover.inheritance import Inheritance, inherited
from gateway.handover.succession import HandingOver, Succession
from gateway.health.fallback import Fallback
from gateway.health.watch import Health
from gateway.http.admin import AdminHandlers
from gateway.http.app import admin_application, client_application, error_body, surface_of
from gateway.http.bodies import BODY_LIMIT, BodyLimit
from gateway.http.edge import Edge
from gateway.http.entrances import Entrances, others_handover_sockets
from gateway.http.failing_over import Failover
from gateway.http.inference import InferenceHandlers
from gateway.http.listing import ListingHandlers
from gateway.http.origins import Origins
from gateway.http.server import ClientRunner
from gateway.http.store import StoreHandlers
from gateway.http.turn import Turn
from gateway.learning.keeping import Learning
from gateway.relay.sockets import worker_socket
from gateway.relay.upstream import Upstream
from gateway.reload import Parts, Settings, policy_of
from gateway.runtime import Runtime
from gateway.scheduling.residency import quiet
from gateway.scheduling.scheduler import Scheduler
from gateway.stores.operations import Stores
from supervisor.contract.config import Config
from supervisor.contract.fleet import FleetSnapshot
from supervisor.contract.runtime_dir import FORWARD_SOCKET, SUPERVISOR_SOCKET
from supervisor.contract.values import is_loopback

_log = structlog.get_logger("gateway")

_FINISH_S = 3.0
"""How long the last words of answers may take, once all have ended or been broken off."""
_INTRODUCED_S = 2.0
"""For workers to tell what they hold while no gateway takes clients in; then without those that do not."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the gateway listens and whom it follows."""

    listener: socket.socket
    """The clients' port, bound and listening."""
    runtime_dir: Path
    supervised: bool = True
    """A supervisor tells of its workers in the runtime directory; otherwise there are external ones only."""
    learned_file: Path | None = None
    """Where it keeps what it has learned; None is nowhere."""
    timings: Timings = USUAL
    """How often external workers are asked."""
    generation: int = 1
    """Which of the supervisor's gateways this is; its sockets bear the number."""
    read: Callable[[], Config] | None = None
    """Reads the configuration again, for a reload; raises SettingsError. None keeps the first one."""
    is_kept: bool = False
    """The listener outlives the supervisor: who comes during a stop can wait for the next one."""


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway that serves."""

    fleet: Fleet
    runtime: Runtime
    turn: Turn
    entrances: Entrances
    settings: Settings
    given_up: asyncio.Event
    """Set when another gateway has taken its place."""
    link: asyncio.Task[None] | None
    """Follows the supervisor, if there is one."""


async def serve(config: Config, ports: Ports, greet: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT, or until another gateway serves; then finish what is under way.

    `greet` is called once, when the first worker can take requests and no other is still coming up.
    """
    ending = Ending()
    host.on_end_signals(ending.signalled)
    host.raise_file_limit()
    async with running(config, ports) as served:
        host.on_hangup(served.settings.reread, ending.signalled)
        greeting = asyncio.create_task(_greet(served.fleet, greet))
        gc.freeze()
        _log.info("gateway serves", pid=os.getpid(), generation=ports.generation)
        await ending.wait_for_either(served.given_up, served.link)
        if ports.is_kept and ending.asked.is_set():
            await served.entrances.leave_to_successor()
        await _cancel(greeting)
        limits = served.settings.config.gateway
        await ending.finish(served.turn, served.runtime, served.entrances, limits)


async def _greet(fleet: Fleet, greet: Callable[[], None]) -> None:
    await fleet.wait_until_settled()
    greet()


@asynccontextmanager
async def running(config: Config, ports: Ports) -> AsyncIterator[Served]:
    """Serve as long as the block lasts."""
    async with AsyncExitStack() as stack:
        inheritance = await stack.enter_async_context(_inherited(config, ports))
        session = await stack.enter_async_context(_session())
        fleet = Fleet(session, config.gateway.load_timeout, config.models)
        stack.push_async_callback(fleet.close)
        runtime = Runtime(Scheduler(policy_of(config)), fleet, asyncio.get_running_loop().time)
        learning = await _learning(ports.learned_file, fleet, runtime, stack)
        stack.push_async_callback(runtime.close)
        inheritance.prepare(fleet.roster)
        inheritance.follow(runtime)
        fleet.on_seen = inheritance.seen
        duties = await stack.enter_async_context(AsyncExitStack())
        duties.push_async_callback(fleet.retire)
        fleet.connect_to(runtime.feed, lambda instance: quiet(runtime.scheduler.workers, instance))
        reports, settings = Reports(), Settings(config, ports.read or (lambda: config))
        reporting = Reporting(fleet, runtime, reports.say, lambda: settings.number)
        reporting.install()
        Fallback(runtime, reports.tell).install()
        external = _external_link(config, ports, fleet, session)
        await duties.enter_async_context(external.running())
        link = _link(ports, partial(_take_snapshot, fleet, settings), reports, duties)
        once = await stack.enter_async_context(_session(keeps=False))
        upstream = _upstream(config, session, once, external.request_failed)
        health = Health(fleet, runtime, upstream, config.gateway, reports.tell)
        await duties.enter_async_context(health.running())
        origins = _origins(config, ports.listener)
        stores = Stores(fleet, Departures(fleet, runtime), session)
        await stack.enter_async_context(stores.running())
        turn = _turn(settings, ports, stack)
        edge = Edge(origins, surface_of, turn)
        inference = _inference(config, fleet, runtime, upstream, health)
        runners = _runners(config, _Handlers(session, fleet, runtime, stores, inference, edge))
        parts = Parts(
            fleet=fleet,
            runtime=runtime,
            external=external,
            upstream=upstream,
            health=health,
            inference=inference,
            edge=edge,
            body_limit=runners[0].app[BODY_LIMIT],
        )
        settings.begin(parts.use)
        reporting.look()
        entrances = Entrances(*runners, ports.listener, ports.runtime_dir, ports.generation)
        for runner in runners:
            stack.push_async_callback(runner.cleanup)
        stack.callback(entrances.close)
        succession = Succession(runtime, fleet.roster, turn, _handing_over(entrances, learning, duties))
        succession.install()
        stack.push_async_callback(succession.close)
        if not inheritance.is_empty:
            await fleet.wait_for(fleet.roster.all_introduced, _INTRODUCED_S)
        await _open(entrances, succession, inheritance)
        yield Served(fleet, runtime, turn, entrances, settings, succession.given_up, link)


async def _learning(
    file: Path | None, fleet: Fleet, runtime: Runtime, stack: AsyncExitStack
) -> Learning | None:
    """Begin with what an earlier gateway knew; before the first event."""
    if file is None:
        return None
    clock = asyncio.get_running_loop().time
    learning = Learning(runtime.scheduler.estimates, file, fleet.name, clock)
    runtime.on_event = learning.saw
    await stack.enter_async_context(learning.kept())
    return learning


def _upstream(
    config: Config,
    session: aiohttp.ClientSession,
    once: aiohttp.ClientSession,
    on_failure: Callable[[str], None],
) -> Upstream:
    return Upstream(
        session,
        once,
        connect_timeout_s=config.gateway.connect_timeout,
        idle_timeout_s=config.gateway.idle_timeout,
        on_failure=on_failure,
    )


def _link(
    ports: Ports, take: Callable[[FleetSnapshot], None], reports: Reports, duties: AsyncExitStack
) -> asyncio.Task[None] | None:
    """Follow the supervisor, if there is one."""
    if not ports.supervised:
        take(NO_SUPERVISOR)
        return None
    link = asyncio.create_task(follow(str(ports.runtime_dir / SUPERVISOR_SOCKET), take, reports))
    duties.push_async_callback(_cancel, link)
    return link


def _take_snapshot(fleet: Fleet, settings: Settings, snapshot: FleetSnapshot) -> None:
    settings.accepted(snapshot.settings)
    fleet.on_snapshot(snapshot)


def _external_link(
    config: Config, ports: Ports, fleet: Fleet, session: aiohttp.ClientSession
) -> ExternalLink:
    surroundings = Surroundings(
        session=session, on_statuses=fleet.on_external, look=fleet.look_if_quiet, timings=ports.timings
    )
    return ExternalLink(config.external, surroundings)


def _session(*, keeps: bool = True) -> aiohttp.ClientSession:
    """Return a session for requests to workers that keeps connections for the next one, or not."""
    keepalive = {"keepalive_timeout": 30.0} if keeps else {"force_close": True}
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, socket_factory=worker_socket, **keepalive),
        auto_decompress=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "corral"},  # answers are relayed as they are
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@dataclass(frozen=True, slots=True)
class _Handlers:
    """What applications are made of."""

    session: aiohttp.ClientSession
    fleet: Fleet
    runtime: Runtime
    stores: Stores
    inference: InferenceHandlers
    edge: Edge


def _inference(
    config: Config, fleet: Fleet, runtime: Runtime, upstream: Upstream, health: Health
) -> InferenceHandlers:
    rng = random.Random()  # noqa: S311 -- spreads retries, guards nothing
    return InferenceHandlers(
        fleet,
        runtime,
        upstream,
        health,
        Failover(fleet, runtime, upstream, health, config.gateway, rng),
        request_timeout_s=config.gateway.request_timeout,
        passes_options=config.scheduling.context == "pass",
        rng=rng,
    )


def _runners(config: Config, handlers: _Handlers) -> tuple[ClientRunner, web.AppRunner]:
    fleet, runtime = handlers.fleet, handlers.runtime
    admin = AdminHandlers(fleet, runtime)
    listing = ListingHandlers(fleet, runtime, Shows(handlers.session, fleet.roster))
    store = StoreHandlers(handlers.stores, handlers.session)
    limit = BodyLimit.of(config.gateway)
    clients = client_application(handlers.inference, listing, admin, store, handlers.edge, body_limit=limit)
    operator = web.AppRunner(
        admin_application(admin), handler_cancellation=True, access_log=None, shutdown_timeout=_FINISH_S
    )
    return ClientRunner(clients, error_body, shutdown_timeout_s=_FINISH_S), operator


def _origins(config: Config, listener: socket.socket) -> Origins:
    """Return who may call: where only this machine reaches the port, under its own names."""
    host = str(listener.getsockname()[0])
    return Origins(config.gateway.cors_origins, loopback=is_loopback(host), hostname=socket.gethostname())


# Coming and going -----------------------------------------------------------------


def _inherited(config: Config, ports: Ports) -> AbstractAsyncContextManager[Inheritance]:
    """Take over from the gateways that are there, where a supervisor may have started several."""
    sockets = others_handover_sockets(ports.runtime_dir, ports.generation) if ports.supervised else []
    return inherited(sockets, {worker.name for worker in config.external})


def _turn(settings: Settings, ports: Ports, stack: AsyncExitStack) -> Turn:
    def patience_s() -> float:
        return settings.config.gateway.request_timeout

    way = Forwarding(str(ports.runtime_dir / FORWARD_SOCKET), surface_of, patience_s)
    stack.push_async_callback(way.close)
    return Turn(forward=way.forward)


def _handing_over(entrances: Entrances, learning: Learning | None, duties: AsyncExitStack) -> HandingOver:
    async def prepare() -> None:
        await entrances.shut()
        if learning is not None:
            await learning.hand_over()

    async def go_on() -> None:
        if learning is not None:
            learning.take_back()
        await entrances.let_in()

    async def give_up() -> None:
        entrances.give_up_port()
        await duties.aclose()

    return HandingOver(prepare=prepare, go_on=go_on, give_up=give_up)


async def _open(entrances: Entrances, succession: Succession, inheritance: Inheritance) -> None:
    if not host.has_unix_sockets():
        _log.warning("no administration: this system has no unix sockets")
    await entrances.set_up()
    await entrances.open_directory(succession.meet)
    await entrances.let_in()
    entrances.publish()
    inheritance.serve()
