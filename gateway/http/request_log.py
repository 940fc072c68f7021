"""What is remembered of one request while it runs, and the one log line at its end."""

from __future__ import annotations

import json
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

_log = structlog.get_logger("request")

_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_MAX_HEADER_CHARACTERS: Final = 500
"""Clients write what they like into options; a header must stay small."""


@dataclass(slots=True)
class RequestRecord:
    """Filled in on the way; written once by `finish`."""

    id: str
    surface: str
    route: str
    started: float
    model: str = ""
    worker: str = ""
    why: str = ""
    queued_s: float = 0.0
    first_byte_s: float | None = None
    failed_attempts: list[str] = field(default_factory=list)
    ignored_options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def begin(cls, client_id: str | None, surface: str, route: str) -> RequestRecord:
        """Start the clock; a sensible id of the client's is kept, so that its logs match ours."""
        valid = client_id is not None and _CLIENT_ID.match(client_id)
        chosen = client_id if valid and client_id is not None else secrets.token_hex(8)
        return cls(chosen, surface, route, time.monotonic())

    def granted(self, worker: str, why: str, queued_s: float) -> None:
        """Note where it runs, and why."""
        self.worker, self.why, self.queued_s = worker, why, queued_s

    def first_byte(self) -> None:
        """Note that the answer begins."""
        self.first_byte_s = time.monotonic() - self.started

    def failed_attempt(self, worker: str, error: str) -> None:
        """Note an attempt that is made again, or was the last."""
        self.failed_attempts.append(f"{worker}: {error}")

    def response_headers(self) -> dict[str, str]:
        """Return the headers that tell the client what was done."""
        headers = {"X-Request-Id": self.id}
        if self.worker:
            headers["X-Corral-Worker"] = self.worker
            headers["X-Corral-Queued-Ms"] = str(round(self.queued_s * 1000))
        if self.ignored_options:
            headers["X-Corral-Ignored-Options"] = json.dumps(self.ignored_options)[:_MAX_HEADER_CHARACTERS]
        return headers

    def finish(
        self, outcome: str, *, status: int | None = None, error: str | None = None, tokens: int | None = None
    ) -> None:
        """Write the request's line."""
        optional = {
            "error": error,
            "failed_attempts": self.failed_attempts or None,
            "ignored_options": self.ignored_options or None,
            "first_byte_s": None if self.first_byte_s is None else round(self.first_byte_s, 4),
        }
        _log.info(
            "request",
            id=self.id,
            route=self.route,
            model=self.model,
            worker=self.worker,
            why=self.why,
            queued_s=round(self.queued_s, 4),
            total_s=round(time.monotonic() - self.started, 4),
            tokens=tokens,
            status=None if status is None else int(status),
            outcome=outcome,
            **{key: value for key, value in optional.items() if value is not None},
        )
