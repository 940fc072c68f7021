from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.output import LineSplitter, Record, read_line


@given(st.lists(st.binary(max_size=40)), st.integers(1, 16))
def test_nothing_is_lost_however_the_bytes_come(chunks: list[bytes], limit: int) -> None:
    """The pieces together are the text, and none is longer than the limit."""
    letters = [bytes(byte % 26 + 97 if byte % 7 else 10 for byte in chunk) for chunk in chunks]
    splitter = LineSplitter(limit_bytes=limit)
    lines = [line for chunk in letters for line in splitter.feed(chunk)] + splitter.end()
    assert "".join(lines).encode() == b"".join(letters).replace(b"\n", b"")
    assert all(0 < len(line) <= limit for line in lines)


def test_lines_are_cut_at_newlines_and_held_until_then() -> None:
    """Half a line is no line yet."""
    splitter = LineSplitter()
    assert splitter.feed(b"one\r\ntw") == ["one"]
    assert splitter.feed(b"o\n\n") == ["two"]
    assert splitter.end() == []


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    """A worker may write anything."""
    assert LineSplitter().feed(b"\xff\n") == ["\N{REPLACEMENT CHARACTER}"]


def test_a_line_of_our_own_worker_keeps_level_and_fields() -> None:
    """Its JSON is taken apart, not nested; who it is says the supervisor."""
    line = '{"event": "loaded", "level": "warning", "timestamp": "t", "worker": "x", "model": "m"}'
    assert read_line(line) == Record("warning", "loaded", {"model": "m"})


@pytest.mark.parametrize(
    "line", ["[1]", "{}", "{broken", '{"event": 1}', '{"self": 1, "event": "x"}', "level is unknown"]
)
def test_any_other_line_is_logged_as_it_is(line: str) -> None:
    """JSON without an event, broken JSON and plain words are text."""
    assert read_line(line) == Record("info", line)


@pytest.mark.parametrize(
    ("word", "level"), [("DEBUG", "debug"), ("INFO", "info"), ("WARN", "warning"), ("ERROR", "error")]
)
def test_the_level_of_a_logfmt_line_is_read(word: str, level: str) -> None:
    """Ollama writes so."""
    assert read_line(f"time=now level={word} msg=x").level == level


def test_colours_are_left_out() -> None:
    """They would be escaped in the log and help nobody."""
    assert read_line("\x1b[31mred\x1b[0m").event == "red"
