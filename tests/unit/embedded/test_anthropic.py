"""Anthropic's surface: what its requests become, and what frames become."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from supervisor.engines.embedded import anthropic
from supervisor.engines.embedded.events import End, Piece
from supervisor.engines.embedded.failures import ApiError
from supervisor.engines.embedded.frames import Figures, Frame, Framer, whole

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
FRAMER = Framer(model="m", chat=True, tells_more=True)
CALL = {"id": "c", "function": {"index": 0, "name": "f", "arguments": {"x": "ä"}}}


def ask(*blocks: dict[str, Any] | str, **fields: Any) -> dict[str, Any]:
    """Return a body with one message of the user."""
    message = {"role": "user", "content": list(blocks)}
    return {"model": "m", "max_tokens": 5, "messages": [message]} | fields


def end(**fields: Any) -> Frame:
    """Return a last frame."""
    told: dict[str, Any] = _figures()
    return FRAMER.end(End(**told | fields), Figures(total_ns=1, load_ns=1), NOON)


def piece(**fields: Any) -> Frame:
    """Return a frame of a part."""
    return FRAMER.piece(Piece(prompt_tokens=7, **fields), NOON)


def events(*frames: Frame, stops: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return the events that the frames become; each is named as its type."""
    rendering = anthropic.MessagesRendering(id="msg_1", stops=stops)
    text = b"".join(rendering.chunk(frame) for frame in frames).decode()
    found = []
    for event in text.split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_blocks_come_one_after_the_other() -> None:
    """Thoughts, text and a tool call each have a beginning, an end and a number."""
    calls = FRAMER.calls(End(**_figures(), tool_calls=(CALL,)), NOON)
    told = events(piece(thinking="hm"), piece(content="a"), piece(content="b"), calls, end())
    assert [(event["type"], event.get("index")) for event in told] == [
        ("message_start", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("content_block_start", 2),
        ("content_block_delta", 2),
        ("content_block_stop", 2),
        ("message_delta", None),
        ("message_stop", None),
    ]
    assert told[0]["message"]["usage"] == {"input_tokens": 7, "output_tokens": 0}
    assert told[8]["content_block"] == {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    assert told[9]["delta"] == {"type": "input_json_delta", "partial_json": '{"x":"ä"}'}
    assert told[-2]["delta"] == {"stop_reason": "tool_use"}
    assert told[-2]["usage"] == {"input_tokens": 7, "output_tokens": 2}


def _figures() -> dict[str, Any]:
    return {"reason": "stop", "prompt_tokens": 7, "prompt_ns": 0, "answer_tokens": 2, "answer_ns": 0}


@pytest.mark.parametrize(
    ("frame", "stops", "reason"),
    [
        (end(), ("x",), {"stop_reason": "end_turn"}),
        (end(reason="length"), (), {"stop_reason": "max_tokens"}),
        (end(stop_word="x"), ("x",), {"stop_reason": "stop_sequence", "stop_sequence": "x"}),
        (end(stop_word="<end>"), ("x",), {"stop_reason": "end_turn"}),
    ],
)
def test_the_reason_of_the_end_is_anthropics(
    frame: Frame, stops: tuple[str, ...], reason: dict[str, Any]
) -> None:
    """A stop word of the model's own is no stop sequence of the request."""
    assert events(frame, stops=stops)[-2]["delta"] == reason
    one = anthropic.MessagesRendering(id="i", stops=stops).whole(frame)
    assert {name: one[name] for name in reason} == reason


def test_one_object_has_the_same_blocks() -> None:
    """And an empty answer an empty list."""
    calls = FRAMER.calls(End(**_figures(), tool_calls=(CALL,)), NOON)
    frames = [piece(thinking="hm"), piece(content="a"), calls, end()]
    answer = anthropic.MessagesRendering(id="msg_1").whole(whole(frames))
    assert answer == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "c", "name": "f", "input": {"x": "ä"}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 7, "output_tokens": 2},
    }
    assert anthropic.MessagesRendering(id="i").whole(whole([end()]))["content"] == []


def test_a_stream_that_fails_ends_with_an_error_event() -> None:
    """Anthropic's clients raise it."""
    broken = anthropic.MessagesRendering(id="i").broken("gone").decode()
    assert broken == (
        'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"gone"}}\n\n'
    )


def test_system_texts_come_first_and_are_joined() -> None:
    """As one message, whether they are a text or blocks."""
    blocks = [{"type": "text", "text": "be "}, {"type": "text", "text": "nice"}]
    for system in ("be nice", blocks):
        (first, _) = anthropic.to_chat(ask({"type": "text", "text": "x"}, system=system))["messages"]
        assert first == {"role": "system", "content": "be nice"}


def test_results_of_tools_become_messages_of_tools() -> None:
    """Before what the user says beside them."""
    result = {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "4"}]}
    tool, user = anthropic.to_chat(ask({"type": "text", "text": "and?"}, result))["messages"]
    assert tool == {"role": "tool", "tool_call_id": "c", "content": "4", "images": []}
    assert (user["role"], user["content"]) == ("user", "and?")


def test_calls_and_thoughts_of_the_assistant_are_kept() -> None:
    """For templates that show them."""
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "a"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1}},
    ]
    body = ask() | {"messages": [{"role": "assistant", "content": blocks}]}
    (message,) = anthropic.to_chat(body)["messages"]
    function = {"name": "f", "arguments": {"x": 1}}
    assert message == {
        "role": "assistant",
        "content": "a",
        "images": [],
        "thinking": "hm",
        "tool_calls": [{"id": "c", "function": function}],
    }


def test_options_tools_and_thinking_are_translated() -> None:
    """Each under its native name."""
    tool = {"name": "f", "description": "d", "input_schema": {"type": "object"}}
    native = anthropic.to_chat(
        ask("x", stop_sequences=["3"], top_k=1, temperature=0, tools=[tool], thinking={"type": "enabled"})
        | {"messages": [{"role": "user", "content": "x"}]}
    )
    assert native["options"] == {"stop": ["3"], "top_k": 1, "temperature": 0, "num_predict": 5}
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert native["tools"] == [{"type": "function", "function": function}]
    assert native["think"] is True
    effort = anthropic.to_chat(ask({"type": "text", "text": "x"}, output_config={"effort": "xhigh"}))
    assert effort["think"] == "high"


def test_anthropics_own_search_is_a_tool_like_any_other() -> None:
    """And takes the place of one of that name."""
    tools = [{"type": "web_search_20250305", "name": "web_search"}, {"name": "web_search"}]
    (tool,) = anthropic.to_chat(ask({"type": "text", "text": "x"}, tools=tools))["tools"]
    assert tool["function"]["parameters"]["required"] == ["query"]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({}, "model is required"),
        (ask("x", max_tokens=0), "max_tokens is required and must be positive"),
        (ask() | {"messages": []}, "messages is required"),
        (ask() | {"messages": [{"role": "user"}]}, "messages: content is required"),
        (ask("x"), "cannot unmarshal string into Go struct field MessagesRequest.messages"),
        (ask({"type": "image"}), "invalid image source"),
        (
            ask({"type": "image", "source": {"type": "url"}}),
            "invalid image source type: url. Only base64 images are supported.",
        ),
        (
            ask({"type": "image", "source": {"type": "base64", "data": "!"}}),
            "invalid base64 image data: illegal base64 data at input byte 0",
        ),
        (ask({"type": "tool_use", "name": "f"}), "tool_use block missing required 'id' field"),
        (ask({"type": "tool_use", "id": "c"}), "tool_use block missing required 'name' field"),
    ],
)
def test_what_cannot_be_answered_is_refused(body: dict[str, Any], wanted: str) -> None:
    """With a 400 that names what is wrong."""
    with pytest.raises(ApiError) as refused:
        anthropic.to_chat(body)
    assert refused.value.status == 400
    assert wanted in refused.value.text
