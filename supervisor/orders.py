"""What operators ask of single workers on the control socket: drain, resume, restart.

Decides when such an order is carried out, and what is told until then. It goes on when whoever gave it
leaves. One that comes while a reload is being applied waits for its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, Final

from supervisor.contract.command import EXIT_FAILED, EXIT_USAGE
from supervisor.contract.fleet import WorkerState, WorkerStatus
from supervisor.core.fleet import drained_by_hand
from supervisor.host.control import Answer, Command, Question
from supervisor.runtime import Runtime

_ALONE: Final = "no other worker of this machine is ready: requests that no external one takes wait"
_FAILED: Final = (WorkerState.BACKOFF, WorkerState.QUARANTINED)

Verdict = str | None
"""None while it goes on; empty when it is done; else why it came to nothing."""


@dataclass(frozen=True, slots=True)
class Orders:
    """Carries them out."""

    runtime: Runtime
    turn: asyncio.Lock
    """Held by a reload while it changes workers."""

    def commands(self) -> dict[str, Command]:
        """Return them by name."""
        return {"drain": self.drain, "resume": self.resume, "restart": self.restart}

    async def drain(self, question: Question) -> AsyncGenerator[Answer, None]:
        """Give a worker no new requests, and end it when those that it computes have ended."""
        name = str(question.get("worker"))
        if self.runtime.status(name) is not None and not self._others_are_ready(name):
            yield {"progress": _ALONE}
        async for answer in self._carry_out(question, self._take_out, self._drained):
            yield answer

    async def resume(self, question: Question) -> AsyncGenerator[Answer, None]:
        """Let a drained worker serve again."""
        async for answer in self._carry_out(question, self.runtime.resume, self._resumed):
            yield answer

    async def restart(self, question: Question) -> AsyncGenerator[Answer, None]:
        """Drain a worker and start it again."""
        async for answer in self._carry_out(question, self.runtime.restart, self._restarted):
            yield answer

    async def _carry_out(
        self,
        question: Question,
        act: Callable[[str], None],
        judge: Callable[[WorkerStatus, WorkerStatus], Verdict],
    ) -> AsyncGenerator[Answer, None]:
        name = str(question.get("worker"))
        if self.turn.locked():
            yield {"progress": "waits for the reload that is under way"}
        async with self.turn:
            before = self.runtime.status(name)
            if before is None:
                yield {"error": self._unknown(name), "code": EXIT_USAGE}
                return
            act(name)
        if not question.get("wait", True):
            yield {"done": _shown(self.runtime.status(name) or before)}
            return
        async for answer in self._follow(before, judge):
            yield answer

    async def _follow(
        self, before: WorkerStatus, judge: Callable[[WorkerStatus, WorkerStatus], Verdict]
    ) -> AsyncGenerator[Answer, None]:
        name, told = before.worker, ("", "")
        while (status := self.runtime.status(name)) is not None:
            verdict = judge(before, status)
            if verdict == "":
                yield {"done": _shown(status)}
                return
            if verdict is not None:
                yield {"error": f"worker {name}: {verdict}", "code": EXIT_FAILED}
                return
            if (status.state, status.reason) != told:
                told = status.state, status.reason
                yield {"progress": f"worker {name}: {status.state} ({status.reason})", **_shown(status)}
            await self.runtime.wait_until(lambda _, seen=status: self.runtime.status(name) is not seen)  # type: ignore[misc]  # a default binds the loop's value
        yield {"error": f"worker {name}: a reload removed it", "code": EXIT_FAILED}

    def _take_out(self, name: str) -> None:
        self.runtime.drain(name, drained_by_hand(name))

    def _others_are_ready(self, name: str) -> bool:
        others = (status for status in self.runtime.fleet.workers if status.worker != name)
        return any(status.state is WorkerState.READY for status in others)

    def _drained(self, _: WorkerStatus, now: WorkerStatus) -> Verdict:
        if self.runtime.is_wanted(now.worker):
            return "it was resumed meanwhile"
        return "" if now.state is WorkerState.STOPPED else None

    def _resumed(self, _: WorkerStatus, now: WorkerStatus) -> Verdict:
        if now.state is WorkerState.READY:
            return ""
        return self._hopeless(now)

    def _restarted(self, before: WorkerStatus, now: WorkerStatus) -> Verdict:
        if now.state is WorkerState.READY:
            return "" if now.incarnation > before.incarnation else "it was resumed meanwhile"
        return self._hopeless(now) if now.incarnation > before.incarnation else None

    def _hopeless(self, now: WorkerStatus) -> Verdict:
        """Return why it will not be ready soon; None while it may."""
        if now.state in _FAILED:
            return f"does not come up: {now.reason}; its log lines tell more"
        return None if self.runtime.is_wanted(now.worker) else "it was drained meanwhile"

    def _unknown(self, name: str) -> str:
        known = ", ".join(status.worker for status in self.runtime.fleet.workers) or "none"
        return f"there is no worker {name!r} that this Corral runs; there are: {known}"


def _shown(status: WorkerStatus) -> dict[str, Any]:
    return status.model_dump(mode="json", include={"worker", "state", "reason", "incarnation", "pid"})
