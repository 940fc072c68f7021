"""Where the supervisor's log goes and how a worker's line gets into it.

Lines go to standard error, for people on a terminal and as JSON otherwise. How a line looks is decided in
`supervisor/contract/logs.py`, what a worker's line means in `supervisor/core/output.py`.
"""

from __future__ import annotations

import logging
import sys

import structlog

from supervisor.contract.config import LogConfig
from supervisor.contract.logs import processors
from supervisor.core.output import read_line

_log = structlog.stdlib.get_logger(__name__)


def configure(config: LogConfig) -> None:
    """Set up structlog for this process."""
    terminal = sys.stderr.isatty()
    style = ("console" if terminal else "json") if config.format == "auto" else config.format
    structlog.configure(
        processors=processors(style),
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[config.level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def log_worker_line(worker: str, line: str) -> None:
    """Log one line of a worker's output at its own level, with its own fields."""
    record = read_line(line)
    getattr(_log, record.level)(record.event, **(record.fields | {"worker": worker}))
