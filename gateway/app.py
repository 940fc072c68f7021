"""Wires the gateway together: real clock, sockets, signals. Decides nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import structlog
from aiohttp import web

from gateway import host
from gateway.departures import Departures
from gateway.external.health import USUAL, Timings
from gateway.external.merging import NO_SUPERVISOR
from gateway.external_link import ExternalLink, Surroundings
from gateway.fleet import Fleet
from gateway.fleet_link import follow
from gateway.http.admin import AdminHandlers
from gateway.http.app import admin_application, client_application, error_body
from gateway.http.door import Door, most_clients
from gateway.http.inference import InferenceHandlers
from gateway.http.listing import ListingHandlers
from gateway.http.origins import Origins
from gateway.http.server import ClientRunner
from gateway.http.store import StoreHandlers
from gateway.learning import Learning
from gateway.relay.sockets import worker_socket
from gateway.relay.upstream import Upstream
from gateway.runtime import Runtime
from gateway.scheduling.residency import quiet
from gateway.scheduling.scheduler import Scheduler
from gateway.shown import Shows
from gateway.stores import Stores
from supervisor.contract.config import Config, SchedulingConfig
from supervisor.contract.runtime_dir import GATEWAY_SOCKET, SUPERVISOR_SOCKET
from supervisor.contract.values import is_loopback

_log = structlog.get_logger("gateway")

_FINISH_S = 3.0
"""How long answers under way may go on after SIGTERM."""


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


async def serve(config: Config, ports: Ports, greet: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT, then let answers under way finish for a moment.

    `greet` is called once, when the first worker can take requests and no other is still coming up.
    """
    stop = asyncio.Event()
    host.on_end_signals(stop.set)
    host.raise_file_limit()
    async with running(config, ports) as fleet:
        greeting = asyncio.create_task(_greet(fleet, greet))
        gc.freeze()
        _log.info("gateway serves", pid=os.getpid())
        await stop.wait()
        _log.info("gateway stops")
        await _cancel(greeting)


async def _greet(fleet: Fleet, greet: Callable[[], None]) -> None:
    await fleet.wait_until_settled()
    greet()


@asynccontextmanager
async def running(config: Config, ports: Ports) -> AsyncIterator[Fleet]:
    """Serve as long as the block lasts."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(_session())
        fleet = Fleet(session, config.gateway.load_timeout, config.models)
        stack.push_async_callback(fleet.close)
        clock = asyncio.get_running_loop().time
        runtime = Runtime(Scheduler(_policy(config)), fleet, clock)
        if ports.learned_file is not None:
            learning = Learning(runtime.scheduler.estimates, ports.learned_file, fleet.name, clock)
            runtime.on_event = learning.saw
            await stack.enter_async_context(learning.kept())
        stack.push_async_callback(runtime.close)
        fleet.connect_to(runtime.feed, lambda instance: quiet(runtime.scheduler.workers, instance))
        external = _external_link(config, ports, fleet, session)
        await stack.enter_async_context(external.running())
        if ports.supervised:
            link = asyncio.create_task(follow(str(ports.runtime_dir / SUPERVISOR_SOCKET), fleet.on_snapshot))
            stack.push_async_callback(_cancel, link)
        else:
            fleet.on_snapshot(NO_SUPERVISOR)
        upstream = Upstream(
            session,
            connect_timeout_s=config.gateway.connect_timeout,
            idle_timeout_s=config.gateway.idle_timeout,
            on_failure=external.request_failed,
        )
        origins = _origins(config, ports.listener)
        stores = Stores(fleet, Departures(fleet, runtime), session)
        await stack.enter_async_context(stores.running())
        runners = _runners(config, _Parts(session, fleet, runtime, upstream, stores), origins)
        for runner in runners:
            stack.push_async_callback(runner.cleanup)
        await _listen(runners, ports)
        yield fleet


def _policy(config: Config) -> SchedulingConfig:
    """Return the scheduler's constants: a model must be drained for well before its requests are given up."""
    latest = config.gateway.request_timeout / 2
    return config.scheduling.model_copy(update={"drain_after": min(config.scheduling.drain_after, latest)})


def _external_link(
    config: Config, ports: Ports, fleet: Fleet, session: aiohttp.ClientSession
) -> ExternalLink:
    surroundings = Surroundings(
        session=session, on_statuses=fleet.on_external, look=fleet.look_if_quiet, timings=ports.timings
    )
    return ExternalLink(config.external, surroundings)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0, socket_factory=worker_socket),
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
class _Parts:
    """What handlers are made of."""

    session: aiohttp.ClientSession
    fleet: Fleet
    runtime: Runtime
    upstream: Upstream
    stores: Stores


def _runners(config: Config, parts: _Parts, origins: Origins) -> tuple[web.AppRunner, web.AppRunner]:
    fleet, runtime = parts.fleet, parts.runtime
    inference = InferenceHandlers(
        fleet,
        runtime,
        parts.upstream,
        request_timeout_s=config.gateway.request_timeout,
        passes_options=config.scheduling.context == "pass",
        rng=random.Random(),  # noqa: S311 -- spreads retries, guards nothing
    )
    admin = AdminHandlers(fleet, runtime)
    listing = ListingHandlers(fleet, runtime, Shows(parts.session, fleet.roster))
    store = StoreHandlers(parts.stores, parts.session)
    limit_bytes = config.gateway.max_body_size
    clients = client_application(inference, listing, admin, store, origins, max_body_bytes=limit_bytes)
    operator = web.AppRunner(
        admin_application(admin), handler_cancellation=True, access_log=None, shutdown_timeout=_FINISH_S
    )
    return ClientRunner(clients, error_body, shutdown_timeout_s=_FINISH_S), operator


def _origins(config: Config, listener: socket.socket) -> Origins:
    """Return who may call: where only this machine reaches the port, under its own names."""
    host = str(listener.getsockname()[0])
    return Origins(config.gateway.cors_origins, loopback=is_loopback(host), hostname=socket.gethostname())


async def _listen(runners: tuple[web.AppRunner, web.AppRunner], ports: Ports) -> None:
    clients, operator = runners
    for runner in runners:
        await runner.setup()
    descriptors = host.most_descriptors()
    site: web.BaseSite = (
        web.SockSite(clients, ports.listener)
        if descriptors is None
        else Door(clients, ports.listener, most=most_clients(descriptors))
    )
    await site.start()
    if not host.has_unix_sockets():
        _log.warning("no administration: this system has no unix sockets")
        return
    socket_path = ports.runtime_dir / GATEWAY_SOCKET
    socket_path.unlink(missing_ok=True)
    await web.UnixSite(operator, str(socket_path)).start()
    socket_path.chmod(0o600)
