"""What is asked of another worker so that it goes on, and what is read of frames on their way to a client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.continuation import Teller, Times, check_model, check_sent, is_complete, tokens_left
from gateway.relay.outcome import StreamFailedError
from gateway.surfaces.continuing import CannotContinueError, Task, read_task
from gateway.surfaces.continuing_frames import (
    FRAMES,
    MOST_CHARACTERS,
    READ_BYTES,
    AnthropicFrames,
    Ending,
    Heard,
    NativeFrames,
    OpenAIFrames,
    Sent,
)

MESSAGES = [{"role": "user", "content": "go"}]
ENDING = Ending(reason="stop", prompt_tokens=3, output_tokens=9)


def task(route: str, **body: Any) -> Task:
    """Read a request."""
    return read_task(route, json.dumps({"model": "m", **body}).encode())


def line(text: str, **more: Any) -> bytes:
    """A frame of /api/chat."""
    row = {"model": "m", "created_at": "t", "message": {"role": "assistant", "content": text}, "done": False}
    return json.dumps({**row, **more}).encode() + b"\n"


def heard(route: str, *frames: bytes) -> Heard:
    """Take frames in."""
    found = Heard(FRAMES[route](), b"\n" if route.startswith("/api/") else b"\n\n")
    for frame in frames:
        assert found.add(frame) == (frame, "")
    return found


# What is asked ------------------------------------------------------------------


def test_a_native_request_keeps_its_options_and_is_rendered_by_its_own_route() -> None:
    """Only the limit is another one, in case that a server answers instead."""
    asked = task("/api/chat", messages=MESSAGES, options={"seed": 7, "num_ctx": 64}, stream=True)
    assert asked.rendering() == {
        "model": "m",
        "messages": MESSAGES,
        "stream": False,
        "_debug_render_only": True,
        "options": {"seed": 7, "num_ctx": 64, "num_predict": 1},
    }
    assert asked.continuing("own", "text", 4) == {
        "model": "own",
        "prompt": "text",
        "raw": True,
        "stream": True,
        "truncate": False,
        "think": False,
        "options": {"seed": 7, "num_ctx": 64, "num_predict": 4},
    }


def test_a_native_text_is_asked_for_with_its_tokens() -> None:
    """A template that is nothing but the prompt, for `context` at the end; raw ones have none anyway."""
    asked = task("/api/generate", prompt="go", shift=False)
    body = asked.continuing("m", "text", None)
    assert (body["template"], body["context"], body["shift"]) == ("{{ .Prompt }}", [], False)
    raw = task("/api/generate", prompt="go", raw=True)
    assert (raw.prompt, raw.continuing("m", "go1", None)["raw"]) == ("go", True)


def test_openai_options_are_said_as_its_engines_say_them() -> None:
    """Defaults of 1 for temperature and top_p, and other names for the limit and stop sequences."""
    asked = task("/v1/chat/completions", messages=MESSAGES, max_tokens=9, stop="x", seed=1)
    wanted = {"temperature": 1.0, "top_p": 1.0, "seed": 1, "num_predict": 9, "stop": ["x"]}
    assert dict(asked.options) == wanted
    plain = task("/v1/completions", prompt="go", suffix="end", stop=["a"], top_p=0)
    assert dict(plain.options) == {
        "temperature": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "top_p": 1.0,
        "stop": ["a"],
    }
    assert plain.question["suffix"] == "end"


def test_a_newer_limit_holds_unless_the_answer_is_longer_already() -> None:
    """Where the first worker did not keep to it, nobody does."""
    body = json.dumps({"model": "m", "messages": MESSAGES, "max_completion_tokens": 5}).encode()
    assert read_task("/v1/chat/completions", body, sent_tokens=4).limit == 5
    assert read_task("/v1/chat/completions", body, sent_tokens=5).limit is None


def test_messages_become_those_of_the_native_chat() -> None:
    """Anthropic's system text comes first, and its blocks are one text; OpenAI's parts are messages each."""
    blocks = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    said = [{"role": "user", "content": blocks}, {"role": "assistant", "content": ""}]
    asked = task("/v1/messages", system=blocks, messages=said, max_tokens=3, temperature=0)
    ab = {"role": "user", "content": "ab"}
    assert asked.question["messages"] == [{"role": "system", "content": "ab"}, ab]
    assert dict(asked.options) == {"temperature": 0, "num_predict": 3}
    parts = task("/v1/chat/completions", messages=said[:1])
    assert [one["content"] for one in parts.question["messages"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("route", "body", "thinks"),
    [
        ("/api/chat", {"messages": MESSAGES}, None),
        ("/api/chat", {"messages": MESSAGES, "think": "high"}, True),
        ("/api/chat", {"messages": MESSAGES, "think": False}, False),
        ("/v1/chat/completions", {"messages": MESSAGES, "reasoning_effort": "none"}, False),
        ("/v1/chat/completions", {"messages": MESSAGES, "reasoning": {"effort": "low"}}, True),
        ("/v1/messages", {"messages": MESSAGES, "thinking": {"type": "disabled"}}, False),
        ("/v1/messages", {"messages": MESSAGES, "output_config": {"effort": "low"}}, True),
    ],
)
def test_whether_a_model_is_to_think_is_read(
    *, route: str, body: dict[str, Any], thinks: bool | None
) -> None:
    """Each surface has its own word for it."""
    assert task(route, **body).thinks is thinks


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/api/chat", {"tools": [{}]}),
        ("/api/chat", {"format": "json"}),
        ("/api/chat", {"logprobs": True}),
        ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}),
        ("/api/generate", {"images": ["aGk="]}),
        ("/v1/chat/completions", {"response_format": {"type": "json_object"}}),
        ("/v1/chat/completions", {"n": 2}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        ("/v1/chat/completions", {"messages": [{"role": "tool", "tool_call_id": "1", "content": "x"}]}),
        ("/v1/completions", {"prompt": ["a", "b"]}),
        ("/v1/completions", {"logprobs": 1}),
        ("/v1/messages", {"stop_sequences": ["x"]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}),
        ("/v1/responses", {"input": "x"}),
        ("/v1/embeddings", {"input": "x"}),
    ],
)
def test_what_cannot_go_on_exactly_is_refused(route: str, body: dict[str, Any]) -> None:
    """With a reason."""
    with pytest.raises(CannotContinueError, match=r"\w+"):
        task(route, **{"messages": MESSAGES, "prompt": "go", **body})


def test_a_format_that_is_plain_text_and_empty_fields_are_no_obstacle() -> None:
    """Clients send them."""
    task("/v1/chat/completions", messages=MESSAGES, response_format={"type": "text"}, tools=[], n=1)


# Which model ---------------------------------------------------------------------


def test_an_engine_that_is_not_known_is_not_tried() -> None:
    """It might cut the text, or begin anew."""
    with pytest.raises(CannotContinueError, match="engine other"):
        check_model(task("/api/chat", messages=MESSAGES), "other", {})
    check_model(task("/api/chat", messages=MESSAGES), "embedded", {"capabilities": ["completion"]})


def test_the_limit_is_the_requests_or_else_the_modelfiles() -> None:
    """Less what was sent; numbers below 1 are no limit."""
    sent, shown = Sent(tokens=3), {"parameters": 'stop  "x"\nnum_predict    10\nseed 1'}
    assert tokens_left(task("/api/chat", messages=MESSAGES), sent, shown) == 7
    assert tokens_left(task("/api/chat", messages=MESSAGES, options={"num_predict": 5}), sent, shown) == 2
    assert tokens_left(task("/api/chat", messages=MESSAGES, options={"num_predict": -1}), sent, shown) is None
    assert is_complete(task("/api/chat", messages=MESSAGES, options={"num_predict": 3}), sent)


# What the client has ----------------------------------------------------------------


def test_frames_are_read_only_when_somebody_wants_to_know() -> None:
    """Until then they are kept as they are, up to a bound."""
    found = heard("/api/chat", *(line(str(number)) for number in range(1000)))
    assert found.read().tokens == 1000
    assert found.read().text == "".join(map(str, range(1000)))
    flood = heard("/api/chat", *(line("x" * 100) for _ in range(1000)))
    assert len(flood._unread) <= READ_BYTES


def test_an_answer_that_is_too_long_is_let_go() -> None:
    """Memory is bounded."""
    found = heard("/api/chat", line("x" * MOST_CHARACTERS), line("y")).read()
    assert (found.texts, found.obstacle != "") == ([], True)
    with pytest.raises(CannotContinueError, match="longer than"):
        check_sent(found)


@pytest.mark.parametrize(
    "frame",
    [
        line("x", message={"role": "assistant", "content": "", "thinking": "hm"}),
        line("x", message={"role": "assistant", "content": "", "tool_calls": [{}]}),
        line("x", logprobs=[{}]),
        b"no JSON\n{\n",
    ],
)
def test_an_answer_that_is_more_than_text_cannot_go_on(frame: bytes) -> None:
    """Also where the request did not tell."""
    with pytest.raises(CannotContinueError):
        check_sent(heard("/api/chat", line("a"), frame).read())


def test_nothing_to_go_by_is_an_obstacle() -> None:
    """Frames that go on are made like those that were sent."""
    with pytest.raises(CannotContinueError, match="do not show"):
        check_sent(Sent())


def test_a_frame_that_tells_an_error_stays_here() -> None:
    """What was whole before it goes on; texts with that word are no errors."""
    assert heard("/api/chat").add(line("a") + b'{"error":"died"}\n') == (line("a"), "died")
    event = b'event: error\ndata: {"type":"error","error":{"message":"died"}}\n\n'
    assert heard("/v1/messages").add(event) == (b"", "died")
    said = line('{"error": 1}', message={"role": "assistant", "content": '"error"'})
    assert heard("/api/chat").add(said) == (said, "")


@given(st.text(), st.lists(st.text(min_size=1), min_size=1))
def test_pieces_are_read_back_as_they_were_said(first: str, texts: list[str]) -> None:
    """In every surface, whatever the text."""
    openai = {
        "id": "i",
        "created": 1,
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": first}}],
    }
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    native = json.loads(line(first))
    for made, again, frame in (
        (NativeFrames(), heard("/api/chat"), native),
        (OpenAIFrames(), heard("/v1/chat/completions"), openai),
        (AnthropicFrames(), heard("/v1/messages"), start),
    ):
        made.hear(frame)
        for text in texts:
            again.add(made.piece(text, "t"))
        assert again.read().text.encode("utf-8", "replace") == "".join(texts).encode("utf-8", "replace")
        assert (again.read().tokens, again.read().obstacle) == (len(texts), "")


def test_role_and_form_stay_those_of_the_last_frame() -> None:
    """A worker that tells the role only once is not made to tell it twice."""
    first = {"id": "i", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    second = {"id": "i", "choices": [{"index": 0, "delta": {"content": "1"}}]}
    made = OpenAIFrames()
    made.hear(first)
    made.hear(second)
    assert made.piece(" 2", "t") == (
        b'data: {"id":"i","choices":[{"index":0,"delta":{"content":" 2"},"finish_reason":null}]}\n\n'
    )


def test_a_block_that_was_ended_is_followed_by_another() -> None:
    """Text after `content_block_stop` needs one of its own."""
    made = AnthropicFrames()
    made.hear({"type": "content_block_start", "index": 0, "content_block": {"type": "text"}})
    made.hear({"type": "content_block_stop", "index": 0})
    piece = made.piece("x", "t")
    assert piece.count(b"event: content_block_start") == 1
    assert piece.count(b'"index":1') == 2
    assert b"content_block_stop" in made.end(ENDING)


def test_what_was_sent_of_the_end_is_not_sent_again() -> None:
    """The reason, or the counts."""
    made = OpenAIFrames()
    made.hear({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]})
    assert made.end(ENDING) == b"data: [DONE]\n\n"
    said = AnthropicFrames()
    said.hear({"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    assert said.end(ENDING) == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


# What goes on -----------------------------------------------------------------------


def test_counts_are_those_of_both_parts() -> None:
    """The second worker reads what the client has as part of its prompt."""
    found = heard("/api/chat", line("1"), line(" 2"))
    found.read()
    teller = Teller(found.frames)
    last = {"done": True, "done_reason": "stop", "prompt_eval_count": 12, "eval_count": 1, "eval_duration": 5}
    lines = [{"response": " 3", "created_at": "u"}, {"response": "", **last}]
    said = list(teller.tell(b"".join(json.dumps(one).encode() + b"\n" for one in lines)))
    assert [json.loads(one)["message"]["content"] for one in said] == [" 3"]
    ending = teller.ending(Times(2.0, 1.0), {"continued": []}, include_usage=False)
    final = json.loads(found.frames.end(ending))
    assert (final["prompt_eval_count"], final["eval_count"]) == (10, 3)
    assert (final["eval_duration"], final["total_duration"]) == (1_000_000_005, 2_000_000_000)


@pytest.mark.parametrize("lines", [b'{"error":"died"}\n', b"<html>\n"])
def test_a_worker_that_fails_again_tells_nothing(lines: bytes) -> None:
    """Its words are no answer."""
    with pytest.raises(StreamFailedError):
        list(Teller(NativeFrames()).tell(lines))
