"""Thoughts and tool calls, taken out of answers that come in parts of any size."""

from __future__ import annotations

import json
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.engines.embedded.answers import Calls, Reading, Thoughts
from supervisor.engines.embedded.events import End, Piece

TOOLS = ("get", "get_weather")
END = End(reason="stop", prompt_tokens=1, prompt_ns=1, answer_tokens=1, answer_ns=1)
PARIS = {"city": "Paris"}


def read(parts: list[str], reading: Reading) -> tuple[str, str, list[tuple[str, object]]]:
    """Return the thoughts, the content and the calls of an answer."""
    events = [event for part in parts for event in reading.read(Piece(content=part))]
    events += reading.read(END)
    pieces = [event for event in events if isinstance(event, Piece)]
    *_, end = events
    assert isinstance(end, End)
    assert end.text == "".join(parts)
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in end.tool_calls]
    return "".join(p.thinking for p in pieces), "".join(p.content for p in pieces), calls


def reading(mark: str = "<call>", tools: tuple[str, ...] = TOOLS) -> Reading:
    """Return a reading of an answer with thoughts and calls."""
    ids = count()
    calls = Calls(mark, tools) if tools else None
    return Reading(lambda: f"call_{next(ids)}", Thoughts("<think>", "</think>"), calls)


ANSWERS = [
    ("<call>", "just text < and > more", "", "just text < and > more", []),
    ("<call>", " <think>\n hm, <b> </think>\n\nyes", "hm, <b> ", "yes", []),
    ("<call>", "no <think>x</think>", "", "no <think>x</think>", []),
    ("<call>", "<think>never closed", "never closed", "", []),
    ("<call>", "<thi", "", "<thi", []),
    (
        "<call>",
        'see: <call>{"name": "get_weather", "arguments": {"city": "Paris"}}</call>',
        "",
        "see: ",
        [("get_weather", PARIS)],
    ),
    (
        "<call>",
        '<think>a</think><call>{"name": "get", "parameters": {}}</call><call>'
        '{"name": "get_weather", "arguments": ' + json.dumps(json.dumps(PARIS)) + "}",
        "a",
        "",
        [("get", {}), ("get_weather", PARIS)],
    ),
    ("<call>", '<call>get_weather {"city": "Paris"}', "", "", [("get_weather", PARIS)]),
    ("{", '{"name": "get_weather", "arguments": {"city": "Paris"}}', "", "", [("get_weather", PARIS)]),
    ("{", '{"answer": 42} and more', "", '{"answer": 42} and more', []),
    ("{", 'text first {"name": "get_weather", "arguments": {}}', "", None, []),
    ("[", '[{"name": "get", "arguments": {}}]', "", "", [("get", {})]),
]


@pytest.mark.parametrize(("mark", "text", "thoughts", "content", "calls"), ANSWERS)
def test_an_answer_is_taken_apart(
    mark: str, text: str, thoughts: str, content: str | None, calls: list[tuple[str, object]]
) -> None:
    """As Ollama does it; `None` stands for the text as it is."""
    assert read([text], reading(mark)) == (thoughts, text if content is None else content, calls)


@given(st.sampled_from(ANSWERS), st.data())
def test_how_an_answer_is_cut_into_parts_changes_nothing(
    answer: tuple[str, str, str, str | None, list[tuple[str, object]]], data: st.DataObject
) -> None:
    """A mark, a name or an object may come in pieces."""
    mark, text, *_ = answer
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)))))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole, cut = read([text], reading(mark)), read(parts, reading(mark))
    assert (cut[0], cut[2]) == (whole[0], whole[2])
    assert cut[1].rstrip("]") == whole[1].rstrip("]")
