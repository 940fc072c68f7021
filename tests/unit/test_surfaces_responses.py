from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.relay.stream import EndOfStream
from gateway.surfaces.identity import Caller
from gateway.surfaces.responses import ResponsesSurface
from gateway.surfaces.surface import Facts

SURFACE, ROUTE = ResponsesSurface(), "/v1/responses"


def facts(caller: Caller | None = None, **changes: Any) -> Facts:
    """Parse a request."""
    return SURFACE.parse(ROUTE, json.dumps({"model": "m", **changes}).encode(), caller or Caller()).facts


def test_size_of_a_prompt_counts_instructions_and_all_items() -> None:
    """Whether the input is one text or a list of items."""
    assert facts(input="x" * 400).prompt_tokens == 100
    assert facts(input="x" * 400, instructions="y" * 400).prompt_tokens == 200
    items = [{"role": "user", "content": [{"type": "input_text", "text": "x" * 400}]}]
    assert facts(input=items).prompt_tokens >= 100


def test_conversation_is_told_by_its_key_or_by_how_it_begins() -> None:
    """The instructions and the first message are all that its requests have in common."""
    assert facts(prompt_cache_key="k", input="a").session == facts(prompt_cache_key="k", input="b").session
    assert facts(input="a", instructions="i").session == facts(input="a", instructions="i").session
    assert facts(input="a").session != facts(input="a", instructions="i").session
    first = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]}
    later = [first, {"type": "function_call_output", "call_id": "c", "output": "o"}]
    assert facts(input=[first]).session == facts(input=later).session == facts(input="a").session


@pytest.mark.parametrize("end", ["completed", "incomplete", "failed"])
def test_stream_ends_with_one_of_three_events(end: str) -> None:
    """Each is an end that the client understands; nothing else is."""
    seen = EndOfStream(SURFACE.final_marks(ROUTE), SURFACE.frame_end)
    seen.add(b'event: response.created\ndata: {"text":"event: response.completed"}\n\n')
    assert not seen.seen
    seen.add(f"event: response.{end}\ndata: {{}}\n\n".encode())
    assert seen.seen


def test_error_in_a_stream_is_what_the_sdk_raises() -> None:
    """The documented fields, the object `error` that makes the SDK raise, and the number that is next."""
    name, data, *_ = SURFACE.error_frame("why", 4).decode().split("\n")
    event = json.loads(data.removeprefix("data: "))
    assert name == "event: error"
    assert (event["type"], event["message"], event["sequence_number"]) == ("error", "why", 4)
    assert event["error"]["message"] == "why"


def test_tokens_are_read_from_the_last_event() -> None:
    """Its usage stands near its end."""
    tail = b'"usage":{"input_tokens":11,"output_tokens":5,"total_tokens":16},"user":null}}\n\n'
    assert SURFACE.counts(ROUTE, tail, 3) == (5, 11)


def test_errors_are_openais() -> None:
    """The clients are the same."""
    assert json.loads(SURFACE.error(404, "gone"))["error"]["type"] == "not_found_error"
