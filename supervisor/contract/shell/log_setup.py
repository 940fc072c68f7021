"""Sets a program's log up: lines on standard error, for people on a terminal and as JSON otherwise.

A line and its end are one write, because supervisor and gateway share the place. One that cannot be written
at once (a full disk, a reader that has gone or stopped) is dropped: whoever reads the log must not decide
whether workers are restarted. How a line looks is decided in `supervisor/contract/logs.py`.
"""

from __future__ import annotations

import sys

import structlog

from supervisor.contract.config import LogConfig
from supervisor.contract.log_stream import LogStream
from supervisor.contract.logs import settings, style_of
from supervisor.contract.shell.standard_error import taker


def configure(config: LogConfig) -> None:
    """Set up structlog for this process."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    stream = LogStream(taker(), style_of(config, terminal=terminal))
    factory = structlog.WriteLoggerFactory(stream.as_file())
    structlog.configure(logger_factory=factory, **settings(config, terminal=terminal))
