from __future__ import annotations

import json

import structlog

from supervisor.contract.config import LogConfig
from supervisor.contract.logs import settings

FACTS = {
    "model": "a",
    "worker": "gpu0",
    "tags": ["x"],
    "options": [["gpu0", 0.5]],
    "attempts": [{"worker": "gpu0"}],
}


def line(style: str) -> str:
    """Return the line of a program's logger."""
    written: list[str] = []

    class Writer:
        def info(self, text: str) -> None:
            written.append(text)

    config = LogConfig.model_validate({"format": style})
    wrapper = structlog.wrap_logger(Writer(), **settings(config, terminal=False))
    wrapper.info("request", **FACTS)
    return written[0]


def test_lines_for_people_leave_out_what_is_for_programs() -> None:
    """A table in a line cannot be read; short lists can."""
    words = line("console")
    assert "gpu0" in words
    assert "['x']" in words
    assert "options" not in words
    assert "attempts" not in words


def test_lines_for_programs_hold_everything() -> None:
    """So that a request can be explained from them."""
    entry = json.loads(line("json"))
    assert {key: entry[key] for key in FACTS} == FACTS
