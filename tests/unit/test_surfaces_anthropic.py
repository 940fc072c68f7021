from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.surfaces.anthropic import AnthropicSurface
from gateway.surfaces.identity import Caller
from gateway.surfaces.surface import BadRequestError, Facts

SURFACE = AnthropicSurface()
ASK = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x" * 400}]}


def facts(route: str = "/v1/messages", caller: Caller | None = None, **changes: Any) -> Facts:
    """Parse a request."""
    return SURFACE.parse(route, json.dumps({**ASK, **changes}).encode(), caller or Caller()).facts


@pytest.mark.parametrize(("given", "streamed"), [(None, False), (False, False), (True, True)])
def test_messages_are_streamed_on_demand(given: bool | None, streamed: bool) -> None:  # noqa: FBT001 -- parameters of the table
    """As in the original."""
    asked: dict[str, Any] = {} if given is None else {"stream": given}
    assert facts(**asked).stream is streamed


def test_size_of_a_prompt_counts_system_messages_and_tools() -> None:
    """All that the model reads; a system prompt may come in parts."""
    small = facts().prompt_tokens
    assert 100 <= small <= 110
    assert facts(system=[{"type": "text", "text": "y" * 400}]).prompt_tokens >= small + 100
    assert facts(tools=[{"name": "f", "description": "z" * 400}]).prompt_tokens >= small + 100


def test_conversation_is_told_by_the_ids_that_claude_code_sends() -> None:
    """By its header, else by the user's id, else by how it begins."""
    header = {"x-claude-code-session-id": "s"}
    assert facts(caller=Caller(header)).session == facts(caller=Caller(header), messages=[]).session
    metadata = {"user_id": "user_1_session_2"}
    assert facts(metadata=metadata).session == facts(metadata=metadata, system="other").session
    assert facts(metadata=metadata).tenant == "user:user_1"
    begun = [*ASK["messages"], {"role": "assistant", "content": "1"}]  # type: ignore[misc]  # a list of messages
    assert facts().session == facts(messages=begun).session != facts(system="other").session


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
def test_tenant_is_whose_key_it_is(name: str) -> None:
    """Anthropic's clients send it in either header."""
    value = "Bearer sk-ant-secret1" if name == "authorization" else "sk-ant-secret1"
    assert facts(caller=Caller({name: value})).tenant.startswith("key:")


def test_body_goes_to_the_worker_byte_for_byte() -> None:
    """Blocks, thinking and cache marks are the engine's to understand."""
    body = b'{ "model":"m", "messages" : [], "thinking":{"type":"enabled"}}'
    assert SURFACE.parse("/v1/messages", body).body is body


def test_counting_tokens_teaches_nothing_about_speeds() -> None:
    """It neither streams nor generates, and opens no conversation."""
    counted = facts("/v1/messages/count_tokens", stream=True)
    assert (counted.stream, counted.computes, counted.session) == (False, False, "")
    assert facts().computes


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (501, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors_have_anthropics_types(status: int, kind: str) -> None:
    """Its clients decide by them whether to try again."""
    answer = json.loads(SURFACE.error(status, "why", request_id="r1"))
    assert answer == {"type": "error", "error": {"type": kind, "message": "why"}, "request_id": "r1"}


def test_error_in_a_stream_is_an_event_of_its_own() -> None:
    """Which the SDK raises."""
    name, data, *rest = SURFACE.error_frame("why").decode().split("\n")
    assert (name, rest) == ("event: error", ["", ""])
    assert json.loads(data.removeprefix("data: "))["error"]["message"] == "why"


def test_tokens_are_read_from_the_usage() -> None:
    """Of the whole answer, of a stream's `message_delta`, and of a count."""
    whole = b'"usage":{"input_tokens":11,"output_tokens": 5}}'
    assert SURFACE.counts("/v1/messages", whole, 0) == (5, 11)
    tail = b'data: {"usage":{"input_tokens":11,"output_tokens":5}}\n\nevent: message_stop\n'
    assert SURFACE.counts("/v1/messages", tail, 9) == (5, 11)
    assert SURFACE.counts("/v1/messages/count_tokens", b'{"input_tokens":7}', 0) == (0, 7)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"model":3}', b'{"model":"m","stream":"yes"}'])
def test_bad_bodies_are_refused(body: bytes) -> None:
    """Before anything is asked of a worker."""
    with pytest.raises(BadRequestError):
        SURFACE.parse("/v1/messages", body)
