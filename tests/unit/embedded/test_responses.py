"""OpenAI's Responses: what its input becomes, and what frames become."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from supervisor.engines.embedded.events import End, Piece
from supervisor.engines.embedded.failures import ApiError
from supervisor.engines.embedded.frames import Figures, Frame, Framer
from supervisor.engines.embedded.responses import ResponsesRendering
from supervisor.engines.embedded.responses_input import to_chat

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
FRAMER = Framer(model="m", chat=True)
CALL = {"id": "c", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}}
END = End(reason="stop", prompt_tokens=7, prompt_ns=1, answer_tokens=2, answer_ns=1)
LAST = FRAMER.end(END, Figures(total_ns=1, load_ns=1), NOON)


def rendering() -> ResponsesRendering:
    """Return the rendering of a request."""
    return ResponsesRendering(number=1, created=5, request={"model": "m", "max_output_tokens": 9})


def events(*frames: Frame) -> list[dict[str, Any]]:
    """Return the events that the frames become; each is named as its type and numbered."""
    text, made = "", rendering()
    for frame in frames:
        text += made.chunk(frame).decode()
    found = [event.split("\ndata: ") for event in text.split("\n\n")[:-1]]
    told = [json.loads(data) for _, data in found]
    assert [f"event: {event['type']}" for event in told] == [name for name, _ in found]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    return told


def test_each_item_begins_and_ends_before_the_next() -> None:
    """Thoughts, then text; the completed response holds both."""
    said = (FRAMER.piece(Piece(thinking="hm"), NOON), FRAMER.piece(Piece(content="a"), NOON))
    told = events(*said, LAST)
    assert [(event["type"].removeprefix("response."), event.get("output_index")) for event in told] == [
        ("created", None),
        ("in_progress", None),
        ("output_item.added", 0),
        ("reasoning_summary_text.delta", 0),
        ("reasoning_summary_text.done", 0),
        ("output_item.done", 0),
        ("output_item.added", 1),
        ("content_part.added", 1),
        ("output_text.delta", 1),
        ("output_text.done", 1),
        ("content_part.done", 1),
        ("output_item.done", 1),
        ("completed", None),
    ]
    response = told[-1]["response"]
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
    assert response["usage"]["total_tokens"] == 9
    assert response["completed_at"] == int(NOON.timestamp())
    assert response["max_output_tokens"] == 9


def test_a_call_of_a_tool_is_an_item_of_its_own() -> None:
    """Its arguments are a text."""
    calls = FRAMER.calls(End(**_figures(), tool_calls=(CALL,)), NOON)
    told = events(calls, LAST)
    (item,) = told[-1]["response"]["output"]
    assert item == {
        "id": "fc_1_0",
        "type": "function_call",
        "status": "completed",
        "call_id": "c",
        "name": "f",
        "arguments": '{"x":1}',
    }
    one = rendering().whole(LAST | {"message": {"content": "", "tool_calls": [CALL]}})
    assert one["output"] == [item]


def _figures() -> dict[str, Any]:
    return {"reason": "stop", "prompt_tokens": 7, "prompt_ns": 0, "answer_tokens": 2, "answer_ns": 0}


def test_a_stream_that_fails_ends_with_an_error_event() -> None:
    """OpenAI's clients raise its `error`."""
    made = rendering()
    made.chunk(FRAMER.piece(Piece(content="a"), NOON))
    name, data = made.broken("gone").decode().rstrip().split("\ndata: ")
    event = json.loads(data)
    assert name == "event: error"
    assert (event["type"], event["message"], event["error"]["message"]) == ("error", "gone", "gone")
    assert event["sequence_number"] == 5


def test_the_history_becomes_messages() -> None:
    """Thoughts belong to the answer after them, calls to the answer before them."""
    given = [
        {"role": "user", "content": "a"},
        {"type": "reasoning", "encrypted_content": "hm"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"x":1}'},
        {"type": "function_call_output", "call_id": "c", "output": "4"},
    ]
    system, user, answer, tool = to_chat({"model": "m", "instructions": "be", "input": given})["messages"]
    assert system == {"role": "system", "content": "be"}
    assert user == {"role": "user", "content": "a", "images": []}
    call = {"id": "c", "function": {"name": "f", "arguments": {"x": 1}}}
    said = {"role": "assistant", "content": "b", "images": [], "thinking": "hm"}
    assert answer == said | {"tool_calls": [call]}
    assert tool == {"role": "tool", "content": "4", "images": [], "tool_call_id": "c"}


def test_settings_are_translated() -> None:
    """Each under its native name; the temperature is OpenAI's unless it is given."""
    schema = {"type": "object"}
    body = {
        "model": "m",
        "input": "x",
        "max_output_tokens": 3,
        "text": {"format": {"type": "json_schema", "schema": schema}},
        "tools": [{"type": "function", "name": "f", "parameters": schema}],
        "reasoning": {"effort": "none"},
    }
    native = to_chat(body)
    assert native["options"] == {"temperature": 1.0, "num_predict": 3}
    assert native["format"] == schema
    assert native["tools"][0]["function"] == {"name": "f", "description": "", "parameters": schema}
    assert native["think"] is False


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (3, "input must be a string or array"),
        (["x"], "input[0]: json: cannot unmarshal string"),
        ([{"content": "x"}], "input[0]: input item missing required 'type' field"),
        ([{"type": "x"}], 'input[0]: unknown input item type: "x"'),
        ([{"role": "user", "content": 3}], "input[0]: content must be a string or array"),
        ([{"role": "user", "content": [{"type": "x"}]}], "input[0]: content[0]: unknown content type: x"),
        ([{"role": "user", "content": [{"type": "input_file"}]}], "file inputs are not currently supported"),
        ([{"type": "function_call", "arguments": "x"}], "failed to parse function call arguments"),
    ],
)
def test_what_is_no_input_is_refused_with_its_place(given: object, wanted: str) -> None:
    """With a 400."""
    with pytest.raises(ApiError) as refused:
        to_chat({"model": "m", "input": given})
    assert refused.value.status == 400
    assert refused.value.text.startswith(wanted)


def test_an_effort_that_is_none_is_refused() -> None:
    """The text names those there are."""
    with pytest.raises(ApiError, match='invalid reasoning value: "lots"'):
        to_chat({"model": "m", "input": "x", "reasoning": {"effort": "lots"}})
