"""How a worker's line gets into the supervisor's log.

Where the log goes is decided in `supervisor/contract/shell/log_setup.py`, what a worker's line means in
`supervisor/core/output.py`.
"""

from __future__ import annotations

import structlog

from supervisor.core.output import read_line

_log = structlog.stdlib.get_logger(__name__)


def log_worker_line(worker: str, line: str) -> None:
    """Log one line of a worker's output at its own level, with its own fields."""
    record = read_line(line)
    getattr(_log, record.level)(record.event, **(record.fields | {"worker": worker}))
