from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.surfaces.ollama import OllamaSurface
from gateway.surfaces.openai import OpenAISurface
from gateway.surfaces.surface import MAX_DEPTH, MOST_VALUES, BadRequestError, read_object, with_known_keys

OLLAMA, OPENAI = OllamaSurface(), OpenAISurface()


def sent(body: bytes, route: str = "/api/chat") -> Any:
    """Return what a worker is sent for a body."""
    surface = OPENAI if route.startswith("/v1/") else OLLAMA
    return json.loads(surface.parse(route, body).body)


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b'{"model":"a","model":"b"}', {"model": "b"}),
        (b'{"model":"a","MODEL":"b"}', {"model": "b"}),
        (b'{"MODEL":"b","model":"a"}', {"model": "a"}),
        (b'{"model":"a","Model":"b","model":"c"}', {"model": "c"}),
        (b'{"me\xc5\xbfsages":[]}', {"messages": []}),
        (b'{"me\xc3\x9fages":[]}', {"meßages": []}),
        (b"null", {}),
        (b' \n{"a":1} trailing {', {"a": 1}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
        (b'{"a":"\\ud800"}', {"a": "\ud800"}),
        (b'{"a":123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
    ],
)
def test_bodies_are_read_as_go_reads_them(body: bytes, read: dict[str, Any]) -> None:
    """Which is how Ollama reads them."""
    assert with_known_keys(read_object(body)) == read


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"m"}',
        b'{"Model":"m"}',
        b'{"model":"m"} and more',
        b'{"model":"m","tools":[{"x":1,"x":2}]}',
        b'{"model":"m","options":{"num_ctx":9},"options":{"seed":1}}',
    ],
)
@pytest.mark.parametrize("route", ["/api/chat", "/v1/chat/completions"])
def test_what_can_be_read_in_two_ways_is_written_anew(body: bytes, route: str) -> None:
    """A worker that takes the first of two keys, or merges them as Go does, must not see both."""
    written = (OPENAI if route.startswith("/v1/") else OLLAMA).parse(route, body).body
    assert written != body
    assert json.loads(written)["model"] == "m"
    assert b"num_ctx" not in written


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b"\xef\xbb\xbf{}",
        '{"model":"m"}'.encode("utf-16"),
        '{"model":"m"}'.encode("utf-16-le"),
        b'{"a":"\n"}',
        b"{'a':1}",
        b'{"a":01}',
        b'{"a":1,}',
        b"[]",
        b'"m"',
    ],
)
def test_what_go_does_not_read_is_refused(body: bytes) -> None:
    """Python would read some of it."""
    with pytest.raises(BadRequestError):
        read_object(body)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_depth_is_bounded(opening: bytes) -> None:
    """As deep as any schema that people write, and no deeper than any worker survives."""
    closing = b"]" if opening == b"[" else b"}"

    def nested(depth: int) -> bytes:
        return b'{"a":' + opening * depth + b"1" + closing * depth + b"}"

    read_object(nested(MAX_DEPTH - 1))
    for depth in (MAX_DEPTH, 2000, 100_000):
        with pytest.raises(BadRequestError, match="exceeded max depth"):
            read_object(nested(depth))


def test_many_objects_beside_each_other_are_not_deep() -> None:
    """Brackets are counted only to save the look."""
    messages = [{"role": "user", "content": "[[[[{{{{"}] * 2000
    assert read_object(json.dumps({"messages": messages}).encode())["messages"] == messages


@pytest.mark.parametrize(
    ("route", "model", "status", "text"),
    [
        ("/api/generate", None, 404, "model '' not found"),
        ("/api/generate", "  ", 404, "model '  ' not found"),
        ("/api/embed", "", 404, "model '' not found"),
        ("/v1/completions", None, 404, "model '' not found"),
        ("/v1/embeddings", "", 404, "model '' not found"),
        ("/api/chat", None, 400, "model is required"),
        ("/api/chat", " ", 400, "model is required"),
        ("/api/embeddings", "", 400, "model is required"),
        ("/v1/chat/completions", None, 400, "model is required"),
        ("/api/chat", "a b", 400, "invalid model name"),
        ("/v1/embeddings", 'q"q', 400, "invalid model name"),
        ("/api/generate", "ü", 400, "invalid model name"),
    ],
)
def test_missing_and_impossible_names_are_refused_as_each_route_of_ollama_does(
    route: str, model: str | None, status: int, text: str
) -> None:
    """The routes differ, and clients know it."""
    body = {} if model is None else {"model": model}
    with pytest.raises(BadRequestError) as refusal:
        sent(json.dumps(body).encode(), route)
    assert (refusal.value.status, refusal.value.message) == (status, text)


@pytest.mark.parametrize("value", [b"[]", b"{}", b"1", b'"a"', b'{"a":1}'])
def test_a_body_of_millions_of_values_is_refused_unread(value: bytes) -> None:
    """Each takes thirty times its bytes, and while all are made nobody else is served."""
    body = b'{"model":"m","x":[' + b",".join([value] * (MOST_VALUES + 1)) + b"]}"
    with pytest.raises(BadRequestError, match="too many values"):
        read_object(body)


@pytest.mark.parametrize("text", [r"a,[{", r"\",", r"\\\",[", "\\\\"])
def test_texts_may_hold_what_looks_like_values(text: str) -> None:
    """They cost what they are long."""
    written = text * (MOST_VALUES // 2)
    assert read_object(b'{"prompt":"%s"}' % written.encode())["prompt"] == json.loads(f'"{written}"')


@pytest.mark.parametrize(
    ("route", "request_name"),
    [
        ("/api/generate", "api.GenerateRequest"),
        ("/api/chat", "api.ChatRequest"),
        ("/api/embed", "api.EmbedRequest"),
        ("/v1/chat/completions", "openai.ChatCompletionRequest"),
        ("/v1/completions", "openai.CompletionRequest"),
        ("/v1/embeddings", "openai.EmbedRequest"),
        ("/v1/responses", "openai.ResponsesRequest"),
        ("/v1/messages", "anthropic.MessagesRequest"),
        ("/api/create", "api.CreateRequest"),
        ("/api/delete", "api.DeleteRequest"),
    ],
)
def test_a_body_that_is_no_object_is_refused_in_the_words_of_its_route(route: str, request_name: str) -> None:
    """Ollama's text alone, which names its own type."""
    for body, found in ((b"[]", "array"), (b'"x"', "string"), (b"true", "bool"), (b"1.5", "number")):
        with pytest.raises(BadRequestError) as refusal:
            read_object(body, route)
        told = f"json: cannot unmarshal {found} into Go value of type {request_name}"
        assert (refusal.value.status, refusal.value.message) == (400, told)


@pytest.mark.parametrize(
    ("route", "body", "told"),
    [
        ("/api/chat", b" \n", "missing request body"),
        ("/v1/chat/completions", b" \n", "EOF"),
        ("/v1/messages", b"{", "unexpected EOF"),
        ("/api/chat", b"{'a'}", r"invalid character '\'' looking for beginning of object key string"),
        ("/api/chat", b"\v{}", r"invalid character '\v' looking for beginning of value"),
    ],
)
def test_what_is_no_json_is_told_as_go_tells_it(route: str, body: bytes, told: str) -> None:
    """And nothing beside it."""
    with pytest.raises(BadRequestError) as refusal:
        read_object(body, route)
    assert refusal.value.message == told
