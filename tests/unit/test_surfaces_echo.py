from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.stream import WholeFrames
from gateway.surfaces.echo import Echo, name_span

ECHO = Echo("asked")
WORDS = '"model":"real" \\ "message":{"model":"real"} {['
"""What a model may say of itself."""
CALL = {
    "function": {"name": "f", "arguments": {"model": "real", "message": {"model": "real"}, "text": WORDS}}
}

TOP: list[dict[str, Any]] = [
    {"model": "real", "created_at": "t", "response": WORDS, "done": False},
    {"model": "real", "message": {"role": "assistant", "content": WORDS, "tool_calls": [CALL]}, "done": True},
    {"id": WORDS, "created": 1, "model": "real", "choices": [{"delta": {"content": WORDS}}]},
    {"id": "m", "type": "message", "content": [{"input": {"model": "real"}}], "model": "real", "usage": {}},
    {"object": "list", "data": [{"embedding": [0.1, -2e-3], "index": 0}], "model": "real"},
]
CARRIED: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "m", "content": [{"model": "real"}], "model": "real"}},
    {"type": "response.created", "sequence_number": 0, "response": {"output": [], "model": "real"}},
]
UNNAMED: list[dict[str, Any]] = [
    {"type": "content_block_start", "content_block": {"type": "tool_use", "input": {"model": "real"}}},
    {"type": "content_block_delta", "delta": {"partial_json": '{"model":"real"}'}},
    {"type": "response.output_item.done", "item": {"arguments": {"model": "real"}, "model": "real"}},
    {"message": {"tool_calls": [CALL]}, "response": [{"model": "real"}]},
    {"message": "model", "type": "model", "other": {"model": "real"}},
    {"model": 3},
    {"model": None},
]


def renamed(frame: dict[str, Any]) -> dict[str, Any]:
    """Return a frame as its client should see it."""
    if "model" in frame:
        return {**frame, "model": "asked"}
    return {
        key: {**value, "model": "asked"} if isinstance(value, dict) else value for key, value in frame.items()
    }


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("frame", [*TOP, *CARRIED])
def test_only_the_frames_own_name_changes(frame: dict[str, Any], separators: tuple[str, str]) -> None:
    """Every other byte stays, also where the model or a tool speaks of models."""
    before = json.dumps(frame, separators=separators).encode()
    after = json.dumps(renamed(frame), separators=separators).encode()
    assert ECHO.body(before) == after
    assert ECHO.frames(before + b"\n") == after + b"\n"
    event = b"event: x\ndata: " + before + b"\n\ndata: [DONE]\n\n"
    assert ECHO.frames(event) == event.replace(before, after)


@pytest.mark.parametrize("frame", UNNAMED)
def test_frame_without_a_name_of_its_own_stays_as_it_is(frame: dict[str, Any]) -> None:
    """Names deeper than that are the model's words or a tool's arguments."""
    body = json.dumps(frame).encode()
    assert ECHO.body(body) is body
    assert ECHO.frames(body) == body


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'[{"model":"real"}]', b'"model"', b'{"a":"model"', b'{"model":"re', b'{"a":"\\"model"'],
)
def test_what_is_no_whole_object_stays_as_it_is(body: bytes) -> None:
    """Nothing is guessed."""
    assert ECHO.body(body) == body


def test_pretty_printed_body_is_read_too() -> None:
    """Spaces and lines between the tokens do not matter."""
    body = json.dumps({"data": [[1.5, 2]], "model": "real"}, indent=2).encode()
    assert json.loads(ECHO.body(body)) == {"data": [[1.5, 2]], "model": "asked"}


def test_name_of_any_script_is_written_as_json() -> None:
    """A client may call a model as it likes."""
    name = 'a"b\\\u00e4\u6a21'
    assert json.loads(Echo(name).body(b'{"model":"real"}')) == {"model": name}


TEXTS = st.text(max_size=12) | st.sampled_from(["model", "message", "response", WORDS, '"', "\\", "{"])
VALUES = st.recursive(
    TEXTS | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(frame=st.dictionaries(TEXTS, VALUES, max_size=4), name=TEXTS)
def test_name_in_front_is_found_in_any_object(frame: dict[str, Any], name: str) -> None:
    """What is behind it does not matter, and is not touched."""
    named = {"model": "real", **{key: value for key, value in frame.items() if key != "model"}}
    assert json.loads(Echo(name).body(json.dumps(named).encode())) == {**named, "model": name}


@given(frame=st.dictionaries(TEXTS, VALUES, max_size=4))
def test_name_is_found_just_where_a_parser_sees_it(frame: dict[str, Any]) -> None:
    """The first name in the object or in what it carries; none is found where there is none."""
    text = json.dumps(frame).encode()
    span = name_span(text, 0)
    expected = next(_own_names(frame), None)
    assert (None if span is None else json.loads(text[slice(*span)])) == (
        expected if isinstance(expected, str) else None
    )


def _own_names(frame: dict[str, Any]) -> Any:
    for key, value in frame.items():
        if key == "model":
            yield value
        if key in {"message", "response"} and isinstance(value, dict) and "model" in value:
            yield value["model"]


STREAMS = {
    b"\n": b"".join(json.dumps(frame).encode() + b"\n" for frame in TOP[:2]),
    b"\n\n": b"".join(
        b"event: x\ndata: " + json.dumps(frame).encode() + b"\n\n" for frame in [TOP[2], *CARRIED]
    )
    + b"data: [DONE]\n\n",
}


@pytest.mark.parametrize("end", STREAMS)
def test_stream_is_renamed_however_it_is_split(end: bytes) -> None:
    """Cut in two at every byte, and into single bytes, the client sees the same."""
    stream = STREAMS[end]
    whole = ECHO.frames(stream)
    assert whole.count(b'"asked"') == stream.count(end) - (1 if end == b"\n\n" else 0)
    for cut in range(len(stream) + 1):
        assert through(end, [stream[:cut], stream[cut:]]) == whole
    assert through(end, [stream[i : i + 1] for i in range(len(stream))]) == whole
    assert through(end, [stream.removesuffix(end)]) == whole.removesuffix(end)


def through(end: bytes, chunks: list[bytes]) -> bytes:
    """Return what a client gets of these chunks."""
    frames = WholeFrames(end, ECHO.frames)
    return b"".join([*(frames.take(chunk) for chunk in chunks if chunk), frames.rest()])
