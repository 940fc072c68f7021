"""Where the supervisor's log goes and how a worker's line gets into it.

Lines go to standard error, for people on a terminal and as JSON otherwise. A line that cannot be written
(a full disk, a reader that has gone) is dropped: whoever reads the log must not decide whether workers are
restarted. How a line looks is decided in `supervisor/contract/logs.py`, what a worker's line means in
`supervisor/core/output.py`.
"""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

from supervisor.contract.config import LogConfig
from supervisor.contract.logs import settings
from supervisor.core.output import read_line

_log = structlog.stdlib.get_logger(__name__)


class _StandardError(io.TextIOBase):
    """Standard error, except that writing to it cannot fail."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def configure(config: LogConfig) -> None:
    """Set up structlog for this process."""
    factory = structlog.WriteLoggerFactory(cast("TextIO", _StandardError()))
    structlog.configure(logger_factory=factory, **settings(config, terminal=sys.stderr.isatty()))


def log_worker_line(worker: str, line: str) -> None:
    """Log one line of a worker's output at its own level, with its own fields."""
    record = read_line(line)
    getattr(_log, record.level)(record.event, **(record.fields | {"worker": worker}))
