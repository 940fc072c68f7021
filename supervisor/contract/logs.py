"""How a log line looks, the same in the supervisor, the gateway and the workers.

Decides the processors of structlog; where the lines go is each program's wiring.
"""

from __future__ import annotations

from typing import Literal

import structlog


def processors(style: Literal["console", "json"]) -> list[structlog.typing.Processor]:
    """Return the chain that turns an event into one line: for people, or one JSON object."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=style == "json"),
    ]
    if style == "json":
        return [*shared, structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    return [*shared, structlog.dev.ConsoleRenderer()]
