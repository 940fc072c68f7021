from __future__ import annotations

import json

import pytest
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


class Writer:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)

    error = exception = info


def line(style: str) -> str:
    """Return the line of a program's logger."""
    writer = Writer()
    config = LogConfig.model_validate({"format": style})
    structlog.wrap_logger(writer, **settings(config, terminal=False)).info("request", **FACTS)
    return writer.lines[0]


@pytest.mark.parametrize("style", ["console", "json"])
def test_tracebacks_hold_no_prompt_and_no_key(style: str) -> None:
    """The values of variables are what a log must never tell."""
    writer = Writer()
    log = structlog.wrap_logger(
        writer, **settings(LogConfig.model_validate({"format": style}), terminal=False)
    )
    written = len(writer.lines)
    try:
        answer("of", "a", "prompt")
    except ValueError:
        log.exception("failed")
    assert "ValueError" in writer.lines[written]
    assert "ofaprompt" not in writer.lines[written]


def answer(*words: str) -> None:
    """Fail with something in a variable that stands nowhere in the text."""
    prompt = "".join(words)
    raise ValueError(len(prompt))


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
