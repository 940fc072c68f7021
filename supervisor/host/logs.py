"""Where the supervisor's log goes and how a worker's line gets into it.

Lines go to standard error, for people on a terminal and as JSON otherwise. A line that cannot be written at
once (a full disk, a reader that has gone or stopped) is dropped: whoever reads the log must not decide
whether workers are restarted. How a line looks is decided in `supervisor/contract/logs.py`, what a worker's
line means in `supervisor/core/output.py`.
"""

from __future__ import annotations

import sys

import structlog

from supervisor.contract.config import LogConfig
from supervisor.contract.log_stream import LogStream
from supervisor.contract.logs import settings, style_of
from supervisor.core.output import read_line
from supervisor.host.standard_error import taker

_log = structlog.stdlib.get_logger(__name__)


def configure(config: LogConfig) -> None:
    """Set up structlog for this process."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    stream = LogStream(taker(), style_of(config, terminal=terminal))
    factory = structlog.WriteLoggerFactory(stream.as_file())
    structlog.configure(logger_factory=factory, **settings(config, terminal=terminal))


def log_worker_line(worker: str, line: str) -> None:
    """Log one line of a worker's output at its own level, with its own fields."""
    record = read_line(line)
    getattr(_log, record.level)(record.event, **(record.fields | {"worker": worker}))
