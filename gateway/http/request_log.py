"""What is remembered of one request while it runs, and the one log line at its end.

The line is enough to replay the request on another fleet: when it came, whose it was, what it asked of which
model, and how long it waited and computed. It never holds a prompt or a credential.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import structlog

from gateway.decisions.memory import Attempt, Decisions
from gateway.scheduling.names import RequestId, Variant
from gateway.scheduling.types import Grant, Rejection
from gateway.surfaces.surface import Counts, Facts

_log = structlog.get_logger("request")

_MAX_HEADER_CHARACTERS: Final = 500
"""Clients write what they like into options; a header must stay small."""
_MAX_NAME_CHARACTERS: Final = 200
_numbers: Final = count(1)


@dataclass(slots=True, weakref_slot=True)
class RequestRecord:
    """Filled in on the way; written once by `finish`, and remembered for `corral explain`."""

    id: str
    surface: str
    route: str
    started: float
    """Monotonic."""
    started_unix: float
    decisions: Decisions
    variant: Variant | None = None
    attempts: list[Attempt] = field(default_factory=list)
    rejection: Rejection | None = None
    model: str = ""
    """As the client wrote it, until it is known what the stores call it."""
    facts: Facts | None = None
    """Once the request is read."""
    worker: str = ""
    why: str = ""
    queued_s: float = 0.0
    first_byte_s: float | None = None
    failed_attempts: list[str] = field(default_factory=list)
    context: str = "configured"
    """What was done about the runner options of the request: `configured` (it had none), `pinned` (left
    out), or `passed` (it ran with them)."""
    ignored_options: dict[str, Any] = field(default_factory=dict)
    """Those that were left out."""
    context_tokens: int | None = None
    """Of the slot that it ran in."""
    warning: str = ""
    continued: list[dict[str, Any]] = field(default_factory=list)
    """Where the answer went on after its worker died: from, to, and after how many tokens."""

    @classmethod
    def begin(cls, request_id: str, surface: str, route: str, decisions: Decisions) -> RequestRecord:
        """Start the clock."""
        record = cls(request_id, surface, route, time.monotonic(), time.time(), decisions)
        decisions.began(record)
        return record

    def parsed(self, facts: Facts) -> None:
        """Note what was asked."""
        self.facts, self.model = facts, facts.model[:_MAX_NAME_CHARACTERS]

    def asks(self, variant: Variant, arrived_at: float) -> RequestId:
        """Note an attempt and return its id, which no other has, though two clients may choose the same."""
        self.variant = variant
        self.attempts.append(Attempt(arrived_at, time.monotonic() - self.started))
        return RequestId(f"{self.id}.{next(_numbers)}")

    def granted(self, grant: Grant) -> None:
        """Note where it runs, and why."""
        self.worker, self.why, self.queued_s = grant.instance.worker, grant.why, grant.queued_s
        self.attempts[-1].granted(grant, time.monotonic() - self.started, self.decisions)

    def granted_again(self, grant: Grant) -> None:
        """Note a slot in which the answer is to go on; what the client waited for the first one stays."""
        self.attempts[-1].granted(grant, time.monotonic() - self.started, self.decisions)

    def went_on(self, worker: str, step: dict[str, Any]) -> None:
        """Note that the answer goes on, or was found complete."""
        self.worker = worker
        self.continued.append(step)

    def generating_s(self) -> float:
        """Return the seconds since the first byte."""
        return time.monotonic() - self.started - (self.first_byte_s or 0.0)

    def first_byte(self) -> None:
        """Note that the answer begins."""
        self.first_byte_s = time.monotonic() - self.started

    def failed_attempt(self, worker: str, error: str) -> None:
        """Note an attempt that is made again, or was the last."""
        self.failed_attempts.append(f"{worker}: {error}")
        self.attempts[-1].error = error

    def response_headers(self) -> dict[str, str]:
        """Return the headers that tell the client what was done."""
        headers = {"X-Request-Id": self.id}
        if self.worker:
            headers["X-Corral-Worker"] = self.worker
            headers["X-Corral-Queued-Ms"] = str(round(self.queued_s * 1000))
        if self.ignored_options:
            headers["X-Corral-Ignored-Options"] = json.dumps(self.ignored_options)[:_MAX_HEADER_CHARACTERS]
        if self.context_tokens is not None and self.facts and "num_ctx" in self.facts.runner_options:
            headers["X-Corral-Context"] = str(self.context_tokens)
        if self.warning:
            headers["X-Corral-Warning"] = self.warning[:_MAX_HEADER_CHARACTERS]
        return headers

    def finish(
        self,
        outcome: str,
        *,
        status: int | None = None,
        error: str | None = None,
        counts: Counts = Counts(),  # noqa: B008 -- immutable
    ) -> None:
        """Write the request's line."""
        line = self.line(outcome=outcome, status=status, error=error, counts=counts)
        _log.info("request", **line)
        self.decisions.ended(self, line)

    def line(
        self,
        *,
        outcome: str = "",
        status: int | None = None,
        error: str | None = None,
        counts: Counts = Counts(),  # noqa: B008 -- immutable
    ) -> dict[str, Any]:
        """Return what the line says, so far as it is known."""
        optional = {
            "error": error,
            "rejected": None if self.rejection is None else str(self.rejection.reason),
            "attempts": [attempt.facts() for attempt in self.attempts] or None,
            "failed_attempts": self.failed_attempts or None,
            "continued": self.continued or None,
            "ignored_options": self.ignored_options or None,
            "context_tokens": self.context_tokens,
            "warning": self.warning or None,
            "first_byte_s": None if self.first_byte_s is None else round(self.first_byte_s, 4),
        }
        return {
            "id": self.id,
            "started_unix": round(self.started_unix, 4),
            "surface": self.surface,
            "route": self.route,
            **self._asked(counts),
            "worker": self.worker,
            "why": self.why,
            "queued_s": round(self.queued_s, 4),
            "total_s": round(time.monotonic() - self.started, 4),
            "tokens": counts.output,
            "status": None if status is None else int(status),
            "outcome": outcome,
            "context": self.context,
            **{key: value for key, value in optional.items() if value is not None},
        }

    def _asked(self, counts: Counts) -> dict[str, Any]:
        facts = self.facts
        estimate = 0 if facts is None else facts.prompt_tokens
        return {
            "model": self.model,
            "tenant": "" if facts is None else facts.tenant,
            "session": "" if facts is None else facts.session,
            **({"background": True} if facts is not None and facts.background else {}),
            **({"stream": False} if facts is not None and not facts.stream else {}),
            "prompt_tokens": estimate if counts.prompt is None else counts.prompt,
        }
