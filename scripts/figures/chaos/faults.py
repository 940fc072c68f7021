"""Does the faults of the schedule to a running Corral, and notes from when to when each lasted.

Decides nothing about what clients may see of them. What an operator's command or a client's request needs
goes through the command and the client.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

import aiohttp
import yaml

from scripts.figures.chaos.asks import LATE_MODEL, QUICK_MODELS, SLOW_MODEL, Ask, Call, Client
from scripts.figures.chaos.clients import Clients
from scripts.figures.chaos.house import WORKERS, House
from scripts.figures.chaos.plan import Fault, Kind
from scripts.figures.chaos.processes import children_of, runs
from scripts.figures.chaos.verdicts import Seen, Span

SETTLES_WITHIN_S: Final = 20.0
_REPLACED_WITHIN_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.1
_BREATH_S: Final = 0.05
"""After a process is gone its last sockets are too."""
_OK: Final = 200
_CROWD, _STREAMERS, _LOADERS, _READERS, _USERS = 40, 24, 6, 8, 6
"""Clients of a fault, by its kind."""
_LONG, _READ, _SLOW_LOG_S = 200, 1500, 4.0


@dataclass(slots=True)
class Happened:
    """A fault that was made."""

    fault: Fault
    begun_at: float
    ended_at: float = 0.0
    settled_s: float | None = None
    """From its beginning until all workers were ready; None where that took too long to wait for."""
    problem: str = ""
    """What did not do what it should."""


@dataclass(slots=True)
class Faults:
    """Hurts one Corral."""

    house: House
    clients: Clients
    ask: Callable[[Ask], Awaitable[Seen]]
    """Makes a request that is judged with all others."""
    chance: Random
    gateway_deaths: list[Span] = field(default_factory=list)
    stopped: list[tuple[str, Span]] = field(default_factory=list)
    """Workers that did nothing, and when."""
    _asked: int = 0

    async def make(self, fault: Fault) -> Happened:
        """Do it; return when it is over and the workers are ready again, or that took too long."""
        happened = Happened(fault, time.time())
        acts: dict[Kind, Callable[[Fault], Awaitable[str]]] = {
            Kind.KILL_WORKER: self._kill_worker,
            Kind.KILL_RUNNER: self._kill_runner,
            Kind.PAUSE_WORKER: self._pause_worker,
            Kind.HANG_WORKER: self._hang_worker,
            Kind.KILL_GATEWAY: self._kill_gateway,
            Kind.RESTART_GATEWAY: lambda _: self._command("restart", "gateway"),
            Kind.DRAIN_WORKER: self._drain,
            Kind.RESTART_WORKER: lambda fault: self._command("restart", fault.worker),
            Kind.RELOAD: self._reload,
            Kind.BROKEN_RELOAD: self._broken_reload,
            Kind.LEAVE_QUEUE: self._leave_queue,
            Kind.LEAVE_LOAD: self._leave_load,
            Kind.LEAVE_STREAM: self._leave_stream,
            Kind.SLOW_READERS: self._read_slowly,
            Kind.STORE: self._make_and_delete,
            Kind.SLOW_LOG: self._slow_log,
        }
        try:
            happened.problem = await acts[fault.kind](fault)
        except (aiohttp.ClientError, OSError, StopIteration) as error:
            happened.problem = f"could not be done: {type(error).__name__} {error}"
        happened.ended_at = time.time()
        if await _within(SETTLES_WITHIN_S, self._all_ready):
            happened.settled_s = time.time() - happened.begun_at
        return happened

    # Processes ----------------------------------------------------------------------

    async def _kill_worker(self, fault: Fault) -> str:
        os.kill((await self.house.worker(fault.worker))["pid"], signal.SIGKILL)
        return ""

    async def _kill_runner(self, fault: Fault) -> str:
        runners = children_of((await self.house.worker(fault.worker))["pid"])
        if runners:
            os.kill(self.chance.choice(runners), signal.SIGKILL)
        return ""

    async def _pause_worker(self, fault: Fault) -> str:
        pid = (await self.house.worker(fault.worker))["pid"]
        begun = time.time()
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        with suppress(ProcessLookupError):  # taken for hung, and replaced
            os.kill(pid, signal.SIGCONT)
        self.stopped.append((fault.worker, Span(begun, time.time())))
        return ""

    async def _hang_worker(self, fault: Fault) -> str:
        worker = await self.house.worker(fault.worker)
        begun = time.time()
        os.kill(worker["pid"], signal.SIGSTOP)
        gone = await _within(_REPLACED_WITHIN_S, lambda: _now(not runs(worker["pid"])))
        self.stopped.append((fault.worker, Span(begun, time.time())))
        if gone:
            return ""
        with suppress(ProcessLookupError):
            os.kill(worker["pid"], signal.SIGCONT)
        return f"{fault.worker} hung for {_REPLACED_WITHIN_S:g} s and was not replaced; it was woken"

    async def _kill_gateway(self, _: Fault) -> str:
        pid, begun = self.house.running.processes()["gateway"], time.time()
        os.kill(pid, signal.SIGKILL)
        await _within(_REPLACED_WITHIN_S, lambda: _now(not runs(pid)))
        await asyncio.sleep(_BREATH_S)
        self.gateway_deaths.append(Span(begun, time.time()))
        return ""

    # Operators ----------------------------------------------------------------------

    async def _command(self, *argv: str) -> str:
        code, said = await self.house.command(*argv)
        return f"corral {' '.join(argv)} ended with {code}: {said[-300:]}" if code else ""

    async def _drain(self, fault: Fault) -> str:
        problem = await self._command("drain", fault.worker)
        await asyncio.sleep(fault.seconds)
        return problem or await self._command("resume", fault.worker)

    async def _reload(self, _: Fault) -> str:
        file, name = self.house.config_file, WORKERS[-1]
        config = yaml.safe_load(file.read_text())
        tokens = config["workers"][-1].get("context_length", 2048) + 256
        config["workers"][-1]["context_length"] = tokens
        file.write_text(yaml.safe_dump(config))
        os.kill(self.house.running.pid, signal.SIGHUP)

        async def changed() -> bool:
            row = await self.house.worker(name)
            return bool(row["context_length"] == tokens and row["state"] == "ready")

        took = await _within(_REPLACED_WITHIN_S, changed)
        return "" if took else f"{name} has not the context_length of the changed file"

    async def _broken_reload(self, _: Fault) -> str:
        file = self.house.config_file
        whole = file.read_text()
        file.write_text(f"{whole}\nworkres: 3\n")
        try:
            os.kill(self.house.running.pid, signal.SIGHUP)
            code, said = await self.house.command("reload")
        finally:
            file.write_text(whole)
        told = code != 0 and "workres" in said
        return "" if told else f"corral reload of a broken file ended with {code}: {said[-300:]}"

    async def _slow_log(self, fault: Fault) -> str:
        self.house.log.pause()
        await asyncio.sleep(_SLOW_LOG_S + fault.seconds)
        self.house.log.resume()
        return ""

    # Clients ------------------------------------------------------------------------

    async def _leave_queue(self, _: Fault) -> str:
        wait_s = (self.chance.uniform(0.02, 0.6) for _ in range(_CROWD))
        await self._ask_all(
            replace(self._stream(SLOW_MODEL, _LONG), leaves_after_s=after_s) for after_s in wait_s
        )
        return ""

    async def _leave_load(self, _: Fault) -> str:
        with suppress(aiohttp.ClientError, TimeoutError):
            await self.clients.post("/api/generate", {"model": LATE_MODEL, "keep_alive": 0})
        wait_s = (self.chance.uniform(0.02, 0.4) for _ in range(_LOADERS))
        await self._ask_all(
            replace(self._stream(LATE_MODEL, 3), leaves_after_s=after_s) for after_s in wait_s
        )
        await self.ask(self._stream(LATE_MODEL, 3))
        return ""

    async def _leave_stream(self, _: Fault) -> str:
        words = (self.chance.randint(1, 20) for _ in range(_STREAMERS))
        await self._ask_all(
            replace(self._stream(SLOW_MODEL, _LONG), leaves_after_words=count) for count in words
        )
        return ""

    async def _read_slowly(self, _: Fault) -> str:
        await self._ask_all(
            replace(self._stream(QUICK_MODELS[0], _READ), pause_s=0.02, client=Client.RAW)
            for _ in range(_READERS)
        )
        return ""

    async def _make_and_delete(self, _: Fault) -> str:
        name = f"extra-{self._asked}"
        status, said = await self.clients.post("/api/copy", {"source": SLOW_MODEL, "destination": name})
        if status != _OK:
            return f"/api/copy: {status} {said}"
        await self._ask_all(self._stream(name, 10) for _ in range(_USERS))
        users = [
            asyncio.ensure_future(self.ask(replace(self._stream(name, _LONG), may_be_gone=True)))
            for _ in range(_USERS)
        ]
        status, said = await self.clients.post("/api/delete", {"model": name}, method="DELETE")
        await asyncio.gather(*users)
        return "" if status == _OK else f"/api/delete: {status} {said}"

    def _stream(self, model: str, words: int) -> Ask:
        """Return a streamed question, of one of the libraries in turn."""
        self._asked += 1
        by = (
            (Client.RAW, Call.CHAT),
            (Client.OLLAMA, Call.CHAT),
            (Client.OPENAI, Call.CHAT_COMPLETION),
            (Client.ANTHROPIC, Call.MESSAGES),
        )
        client, call = by[self._asked % len(by)]
        return Ask(
            id=f"chaos-fault-{self._asked:04}",
            client=client,
            call=Call.CHAT if client is Client.RAW else call,
            model=model,
            words=words,
            streamed=True,
            fresh=True,
        )

    async def _ask_all(self, asks: Iterable[Ask]) -> None:
        await asyncio.gather(*(self.ask(ask) for ask in asks))

    async def _all_ready(self) -> bool:
        return all(row["state"] == "ready" for row in (await self.house.fleet())["workers"])


async def _now(value: bool) -> bool:  # noqa: FBT001 -- a condition, as it is
    return value


async def _within(seconds: float, condition: Callable[[], Awaitable[bool]]) -> bool:
    """Look from outside until it is so, or the time is over; a gateway that does not answer is a no."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(aiohttp.ClientError, OSError, StopIteration):
            if await condition():
                return True
        await asyncio.sleep(_LOOK_EVERY_S)
    return False
