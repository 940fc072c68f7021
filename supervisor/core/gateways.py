"""What the reports of all living gateways mean together. There are two of them while one takes over.

Decides when a worker has something to do, or nothing any more, and which settings are in force. Pure.
"""

from __future__ import annotations

from collections.abc import Collection

from supervisor.contract.reports import Known, Process

Reports = Collection[Known]


def is_idle(reports: Reports, process: Process, *, since_generation: int) -> bool:
    """Whether every gateway has seen the drain of that generation, and holds no slot of the process.

    Without a gateway nobody knows: the next one tells.
    """
    return bool(reports) and all(
        report.generation >= since_generation and process in report.idle for report in reports
    )


def is_served(reports: Reports, process: Process) -> bool:
    """Whether some gateway gives requests to the process."""
    return any(process in report.serving for report in reports)


def settings_in_force(reports: Reports) -> int:
    """Return the number of the oldest accepted configuration that a gateway runs with; 0 without any."""
    return min((report.settings for report in reports), default=0)
