"""How a request that waits is told of: in the log, on the operator's socket, by `corral queue`. Pure."""

from __future__ import annotations

from typing import Any

from gateway.scheduling.forecast import Forecast
from gateway.scheduling.names import RequestId


def waiting_row(found: Forecast, model: str) -> dict[str, Any]:
    """Return one request as JSON; times in seconds, `starts_in_s` null while nothing can be said."""
    row = {
        "id": request_of(found.request),
        "model": model,
        "tenant": found.tenant,
        "background": found.background,
        "position": found.position,
        "queued": found.queued,
        "waited_s": round(found.waited_s, 3),
        "awaiting": str(found.awaiting),
        "starts_in_s": None if found.starts_in_s is None else round(found.starts_in_s, 1),
    }
    return row if found.loading_on is None else {**row, "loading_on": found.loading_on.worker}


def request_of(attempt: RequestId) -> str:
    """Return the id that the client knows: each attempt at a slot has one of its own behind a dot."""
    return attempt.rpartition(".")[0]
