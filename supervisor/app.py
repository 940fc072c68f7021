"""Builds a running Corral out of what was found right: the real clock, signals, sockets and processes.

Decides the order of coming and going: the socket that clients connect to is open before anything else is
started; the gateway goes first, so that it can finish what the workers still answer, then the workers.

The event loop is asyncio's own: nothing here is hot, and uvloop would cost memory on every box.
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from supervisor.contract.command import EXIT_FAILED, EXIT_OK
from supervisor.contract.config import Config
from supervisor.contract.fleet import FleetSnapshot, WorkerState, encode
from supervisor.contract.runtime_dir import CONTROL_SOCKET, ENDPOINT, GATEWAY_SOCKET, SUPERVISOR_SOCKET
from supervisor.contract.shell.hangup import Terminal
from supervisor.core.backoff import RestartPolicy
from supervisor.core.fleet import first_snapshot
from supervisor.core.reload import Arrangement
from supervisor.core.spec import WorkerSpec
from supervisor.core.worker import Timings
from supervisor.engines.engine import Engine
from supervisor.gateways import GATEWAY, Gateways, Upgrade, gateway_timings, is_gateway
from supervisor.gpu_care import SILENCE_S, GpuCare
from supervisor.host.control import Command, ControlServer
from supervisor.host.directory import RuntimeDirectory
from supervisor.host.gpu_watch import INTERVAL_S
from supervisor.host.guard import Guard
from supervisor.host.hangups import let_hangups_in
from supervisor.host.listener import url_of
from supervisor.host.notify import NOBODY, NotifySocket
from supervisor.host.process import Children
from supervisor.host.pulse import USUAL, Beat, Pulse
from supervisor.host.reaper import Reaper
from supervisor.host.snapshots import SnapshotServer
from supervisor.jobs import WorkerJobs
from supervisor.memory_care import MemoryCare
from supervisor.orders import Orders
from supervisor.reloading import Found, Reloads
from supervisor.runtime import Runtime
from supervisor.service import Service

_WORKER_POLICY: Final = RestartPolicy()
_WORKER_STOP_S: Final = 5.0
_LAST_WORDS_S: Final = 3.0
"""For the gateway to tell those whose answers are broken off, once somebody is in a hurry."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All that was found right and taken before anything is started."""

    specs: tuple[WorkerSpec, ...]
    config: Config
    reread: Callable[[], Found]
    """Reads and checks the configuration again, for a reload; raises ConfigError."""
    engines: Mapping[str, Engine]
    listener: socket.socket
    directory: RuntimeDirectory
    config_file: str | None
    worker_timings: Timings
    gateway_argv: tuple[str, ...] = (sys.executable, "-m", "gateway")
    """What runs the gateway; its options follow."""
    worker_policy: RestartPolicy = _WORKER_POLICY
    gateway_timings: Timings | None = None
    """None is what the configuration says."""
    systemd: NotifySocket = NOBODY
    """Who is told how we are."""
    gpu_interval_s: float = INTERVAL_S
    """Between two looks at the GPUs."""
    gpu_silence_s: float = SILENCE_S
    gateway_beat: Beat = USUAL
    """How often the gateway is asked whether its loop turns."""


def worker_timings(config: Config) -> Timings:
    """Return how long workers may take, as the file says."""
    return Timings(stop_timeout_s=_WORKER_STOP_S, drain_timeout_s=config.drain_timeout)


def run(setup: Setup, *, greet: Callable[[str], None]) -> int:
    """Run until a signal ends it; return the exit code.

    `greet` is called once with the URL for clients: when the gateway is ready, and every worker that has
    not been given up.
    """
    return asyncio.run(_run(setup, greet))


async def _run(setup: Setup, greet: Callable[[str], None]) -> int:
    boot_id = uuid.uuid4().hex
    fleet = first_snapshot(boot_id, setup.specs, since_unix=time.time())
    server = SnapshotServer(setup.directory.path / SUPERVISOR_SOCKET, encode(fleet))
    children = _children(boot_id)
    service = Service(setup.systemd)
    service.begin(fleet)
    await server.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            publish = partial(_publish, server, service)
            runtime = Runtime(children, tasks, fleet, publish, time.time, random.Random())  # noqa: S311 -- jitter, no secret
            server.on_known, server.on_hung = runtime.known, runtime.hung
            jobs = WorkerJobs(
                engines=setup.engines,
                boot_id=boot_id,
                policy=setup.worker_policy,
                timings=setup.worker_timings,
            )
            memory = MemoryCare(runtime)
            runtime.cause_of_death, jobs.on_line = memory.cause_of_death, memory.hear
            care = GpuCare(runtime, boot_id, setup.gpu_interval_s, setup.gpu_silence_s)
            reloads = _reloads(setup, runtime, jobs, care, service)
            control = ControlServer(setup.directory.path / CONTROL_SOCKET, _commands(runtime, reloads))
            await control.start()
            ending = _Ending(runtime, reloads, Terminal.at_start())
            ending.listen()
            for job in (_gateways(setup, boot_id).job(), *map(jobs.job, setup.specs)):
                runtime.start(job)
            care.attend(setup.specs)
            greeting = tasks.create_task(_greet(setup, runtime, service, greet))
            pulse = tasks.create_task(_pulse(setup, runtime, service).feel())
            await ending.asked.wait()
            service.stop_began()
            await control.close()
            await reloads.close()
            pulse.cancel()
            care.close()
            memory.close()
            greeting.cancel()
            setup.listener.close()  # once no gateway has it either, clients are refused and wait no more
            await runtime.stop(filter(is_gateway, runtime.names))
            if ending.hurried:
                runtime.kill()
            await runtime.stop(runtime.names)
    finally:
        service.end()
        server.close()
        await children.guard.close()
        children.reaper.stop()
        setup.directory.release()
    return EXIT_FAILED if ending.hurried else EXIT_OK


def _reloads(setup: Setup, runtime: Runtime, jobs: WorkerJobs, care: GpuCare, service: Service) -> Reloads:
    return Reloads(
        runtime=runtime,
        jobs=jobs,
        start=runtime.tasks.create_task,
        reread=setup.reread,
        accept=setup.directory.write_accepted,
        attend=care.attend,
        now=Arrangement(config=setup.config, specs=setup.specs),
        watcher=service,
        turn=asyncio.Lock(),
    )


def _commands(runtime: Runtime, reloads: Reloads) -> dict[str, Command]:
    """Return what is answered on the control socket."""
    upgrade = Upgrade(runtime, lambda: reloads.now.config.gateway.load_timeout)
    orders = Orders(runtime, reloads.turn).commands()
    return {"reload": reloads.reload, "restart-gateway": upgrade.command, **orders}


def _gateways(setup: Setup, boot_id: str) -> Gateways:
    return Gateways(
        argv=setup.gateway_argv,
        listener=setup.listener,
        directory=setup.directory.path,
        config_file=setup.config_file,
        boot_id=boot_id,
        timings=setup.gateway_timings or gateway_timings(setup.config),
        is_kept=bool(setup.systemd.address),
    )


def _children(boot_id: str) -> Children:
    reaper = Reaper(adopt=True)
    guard = Guard(boot_id, reaper)
    reaper.start()
    guard.start()
    return Children(boot_id, reaper, guard)


@dataclass(slots=True)
class _Ending:
    """What signals mean. SIGHUP asks for a reload.

    The first SIGTERM or SIGINT asks for the end, the second for the end now: answers are broken off, and
    their clients told. What still runs after that, or when a third one comes, is killed.
    """

    runtime: Runtime
    reloads: Reloads
    terminal: Terminal
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hurried: bool = False

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        let_hangups_in()

    def _hung_up(self) -> None:
        if self.terminal.was_closed():
            self._signalled(signal.SIGHUP)
        else:
            self.reloads.ask()

    def _signalled(self, number: signal.Signals) -> None:
        if not self.asked.is_set():
            _log.info("stopping", signal=number.name)
            self.asked.set()
            return
        before, self.hurried = self.hurried, True
        if not before and self.runtime.ask_again(filter(is_gateway, self.runtime.names)):
            _log.warning("ending everything now", signal=number.name)
            asyncio.get_running_loop().call_later(_LAST_WORDS_S, self.runtime.kill)
        else:
            _log.warning("killing everything", signal=number.name)
            self.runtime.kill()


def _publish(server: SnapshotServer, service: Service, snapshot: FleetSnapshot) -> None:
    server.publish(snapshot)
    service.fleet(snapshot)


async def _greet(setup: Setup, runtime: Runtime, service: Service, greet: Callable[[str], None]) -> None:
    await runtime.wait_until(_serves)
    url = url_of(setup.listener)
    try:
        setup.directory.write_endpoint(url)
    except OSError as error:
        _log.warning("scripts cannot be told where clients connect", file=ENDPOINT, error=str(error))
    service.served(url)
    greet(url)


def _pulse(setup: Setup, runtime: Runtime, service: Service) -> Pulse:
    """A gateway that hangs is replaced, with systemd or without."""
    return Pulse(
        socket_path=setup.directory.path / GATEWAY_SOCKET,
        is_ready=lambda: runtime.state_of(GATEWAY) is WorkerState.READY,
        answered=service.gateway_answered,
        silent=service.gateway_silent,
        hung=partial(runtime.replace_hung, GATEWAY),
        beat=setup.gateway_beat,
    )


def _serves(states: Mapping[str, WorkerState]) -> bool:
    """A worker that has been given up must not keep the others from being used."""
    workers = [state for name, state in states.items() if not is_gateway(name)]
    settled = all(state in (WorkerState.READY, WorkerState.QUARANTINED) for state in workers)
    usable = not workers or WorkerState.READY in workers  # without any, external ones do the work
    return states[GATEWAY] is WorkerState.READY and settled and usable
