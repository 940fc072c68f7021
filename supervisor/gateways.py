"""The gateway as a supervised process, and how another one takes its place.

Decides what a gateway is started with and what is told of an upgrade. Each process has a number and sockets
of its own, because during an upgrade there are two; which requests go where they settle between themselves.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Final

import structlog

from supervisor.child import Attempt, Job
from supervisor.contract.command import EXIT_FAILED
from supervisor.contract.config import Config
from supervisor.contract.runtime_dir import ACCEPTED, GATEWAY_SOCKET, numbered
from supervisor.core.backoff import RestartPolicy
from supervisor.core.pinning import gateway_environment
from supervisor.core.worker import Timings
from supervisor.host.control import Answer, Question
from supervisor.host.probe import Probe, UnixSocket
from supervisor.host.process import Order
from supervisor.runtime import ReplacementFailedError, Runtime

GATEWAY: Final = "@gateway"
"""The gateway's name among the supervised processes; no worker can be called so. Those of gateways that were
replaced, or are to replace it, begin with it."""

_HEALTH_PATH: Final = "/corral/health"
_POLICY: Final = RestartPolicy(
    immediate=1, first_delay_s=0.1, max_delay_s=5.0, quarantine_crashes=20, quarantine_delay_s=30.0
)
"""Clients wait in the listen backlog while there is no gateway, so it comes back at once."""
_START_S: Final = 60.0
_MARGIN_S: Final = 5.0
"""Beyond what a gateway gives itself to end, before it is ended."""

_log = structlog.stdlib.get_logger(__name__)


def gateway_timings(config: Config) -> Timings:
    """Return how long a gateway may take to start and to finish, as the file says."""
    gateway = config.gateway
    return Timings(
        start_timeout_s=_START_S,
        drain_timeout_s=gateway.finish_timeout + _MARGIN_S,
        stop_timeout_s=gateway.stop_timeout + _MARGIN_S,
    )


def is_gateway(name: str) -> bool:
    """Whether a supervised process is a gateway, of whatever age."""
    return name.startswith(GATEWAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateways:
    """Starts gateways of one boot."""

    argv: tuple[str, ...]
    """What runs one; its options follow."""
    listener: socket.socket
    directory: Path
    config_file: str | None
    boot_id: str
    timings: Timings
    is_kept: bool = False
    """Systemd keeps the listener: it outlives us."""
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def job(self) -> Job:
        """Return the gateway to keep running."""
        return Job(name=GATEWAY, attempt=self._attempt, policy=_POLICY, timings=self.timings)

    def _attempt(self) -> Attempt:
        number, fd = next(self._numbers), self.listener.fileno()
        options = ["--fd", str(fd), "--runtime-dir", str(self.directory), "--generation", str(number)]
        options += ["--accepted", str(self.directory / ACCEPTED)]
        if self.is_kept:
            options.append("--kept")
        if self.config_file is not None:
            options += ["--config", self.config_file]
        name = f"{GATEWAY}.{number}"  # its own, or the end of one would be the end of another
        order = Order(
            name=name,
            argv=(*self.argv, *options),
            env=gateway_environment(os.environ, boot_id=self.boot_id, name=name),
            inherit=(fd,),
        )
        return Attempt(
            order, Probe(UnixSocket(str(self.directory / numbered(GATEWAY_SOCKET, number))), _HEALTH_PATH)
        )


@dataclass(frozen=True, slots=True)
class Upgrade:
    """`corral restart gateway`. Each order gets a gateway that was started after it; one at a time."""

    runtime: Runtime
    load_timeout_s: Callable[[], float]
    """A gateway hands over once the loads that it has begun have ended."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def command(self, question: Question) -> AsyncGenerator[Answer, None]:
        """Start another gateway and let the old one finish; told when the new one serves."""
        waits = question.get("wait", True)
        if not waits:  # and it is done all the same: whoever asked just hears no more of it
            yield {"done": {"result": "the gateway is being replaced; the log tells when that is done"}}
        elif self._turn.locked():
            yield {"progress": "waits for the restart of the gateway that is under way"}
        async with self._turn:
            if waits:
                yield {"progress": "a new gateway starts; it takes over when the loads under way have ended"}
            last = await self._replace()
        if waits:
            yield last

    async def _replace(self) -> Answer:
        timings = replace(self.runtime.timings_of(GATEWAY), start_timeout_s=_START_S + self.load_timeout_s())
        try:
            old_pid, new_pid = await self.runtime.replace(GATEWAY, timings)
        except ReplacementFailedError as error:
            _log.error("the gateway was not replaced", reason=f"the new one {error}")
            text = f"the new gateway {error}; the old one serves on; the log tells more"
            return {"error": text, "code": EXIT_FAILED}
        _log.info("the gateway was replaced", old_pid=old_pid, pid=new_pid)
        return {"done": {"old_pid": old_pid, "pid": new_pid}}
