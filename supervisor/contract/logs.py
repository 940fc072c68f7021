"""How a log line looks, the same in the supervisor, the gateway and the workers.

Decides the processors of structlog; where the lines go is each program's wiring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import structlog

if TYPE_CHECKING:  # pydantic is a tenth of a second that embedded workers can do without
    from supervisor.contract.config import LogConfig

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "exception": 40, "critical": 50}


class _Threshold:
    """Drops lines below a level that can change while loggers that were made earlier stay in use."""

    level = _LEVELS["info"]

    def __call__(
        self,
        _logger: Any,  # noqa: ANN401 -- structlog's protocol
        method: str,
        event: structlog.typing.EventDict,
    ) -> structlog.typing.EventDict:
        """Pass a line on, or end its way."""
        if _LEVELS.get(method, self.level) < self.level:
            raise structlog.DropEvent
        return event


_THRESHOLD: Final = _Threshold()
"""There is one, as there is one configuration of structlog in a process."""


def set_level(level: Literal["debug", "info", "warning", "error"]) -> None:
    """Leave lines below this level out from now on, in the whole process."""
    _THRESHOLD.level = _LEVELS[level]


def settings(log: LogConfig, *, terminal: bool) -> dict[str, Any]:
    """Return what `structlog.configure` is to be called with, but for the logger factory; set the level.

    `terminal` says whether a person may be looking at the lines.
    """
    set_level(log.level)
    return {
        "processors": [_THRESHOLD, *processors(style_of(log, terminal=terminal))],
        "wrapper_class": structlog.make_filtering_bound_logger(_LEVELS["debug"]),
        "cache_logger_on_first_use": True,
    }


def style_of(log: LogConfig, *, terminal: bool) -> Literal["console", "json"]:
    """Return whether lines are for people or for programs."""
    if log.format == "auto":
        return "console" if terminal else "json"
    return log.format


def processors(style: Literal["console", "json"]) -> list[structlog.typing.Processor]:
    """Return the chain that turns an event into one line: for people, or one JSON object."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=style == "json"),
    ]
    if style == "json":
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # prompts and keys
        rendered = structlog.processors.ExceptionRenderer(tracebacks)
        return [*shared, rendered, structlog.processors.JSONRenderer()]
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return [*shared, _without_tables, plain]


def _without_tables(
    _logger: Any,  # noqa: ANN401 -- structlog's protocol
    _method: str,
    event: structlog.typing.EventDict,
) -> structlog.typing.EventDict:
    """Leave out lists of lists and of objects, which are for programs: a person's line must stay a line."""
    return {key: value for key, value in event.items() if not _is_table(value)}


def _is_table(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(row, list | dict) for row in value)
