from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest

from gateway.surfaces.identity import Caller, is_placeholder
from gateway.surfaces.ollama import OllamaSurface
from gateway.surfaces.openai import OpenAISurface
from gateway.surfaces.prompts import IMAGE_TOKENS
from gateway.surfaces.surface import MAX_DEPTH, Facts

KEY = "sk-8f2b61c04e5d4b7f9a"
HASH = sha256(KEY.encode()).hexdigest()[:12]


def facts(
    body: dict[str, Any],
    route: str = "/api/chat",
    headers: dict[str, str] | None = None,
    *,
    address: str = "",
) -> Facts:
    """Parse a body with a model in it."""
    surface = OpenAISurface() if route.startswith("/v1/") else OllamaSurface()
    return surface.parse(
        route, json.dumps({"model": "m", **body}).encode(), Caller(headers or {}, address)
    ).facts


@pytest.mark.parametrize(
    ("headers", "body", "tenant"),
    [
        ({"authorization": f"Bearer {KEY}"}, {}, f"key:{HASH}"),
        ({"authorization": f"bearer {KEY}", "x-openwebui-user-id": "ann"}, {"user": "bob"}, f"key:{HASH}"),
        ({"x-api-key": KEY}, {}, f"key:{HASH}"),
        ({"authorization": "Bearer ollama", "x-api-key": KEY}, {}, f"key:{HASH}"),
        ({"authorization": "Bearer EMPTY", "x-openwebui-user-id": "ann"}, {"user": "bob"}, "user:ann"),
        ({"authorization": "Bearer ollama"}, {"user": "bob"}, "user:bob"),
        ({}, {"metadata": {"user_id": "user_7f_session_91"}}, "user:user_7f"),
        ({"authorization": "Basic YTpi"}, {}, "addr:10.0.0.9"),
        ({}, {"user": 3, "metadata": []}, "addr:10.0.0.9"),
    ],
)
def test_tenant_is_the_key_else_the_user_else_the_address(
    headers: dict[str, str], body: dict[str, Any], tenant: str
) -> None:
    """A real key says most; what a client says of its users comes next."""
    assert facts(body, headers=headers, address="10.0.0.9").tenant == tenant


def test_mail_addresses_are_not_told() -> None:
    """What is no plain name is hashed, so that logs hold no personal data."""
    tenant = facts({}, headers={"x-openwebui-user-email": "ann@example.org"}).tenant
    assert tenant.startswith("user:")
    assert "ann" not in tenant


@pytest.mark.parametrize(
    "credential",
    ["", "ollama", "None", "EMPTY", "sk-...", "sk-xxxxxxxx", "sk-dummy", "lm-studio", "****", "sk-1234"],
)
def test_placeholders_are_no_keys(credential: str) -> None:
    """Everybody writes the same there, so they tell nobody apart."""
    assert is_placeholder(credential)


@pytest.mark.parametrize("credential", [KEY, "alice", "hf_abcdefgh", "ollama-team-a"])
def test_keys_are_keys(credential: str) -> None:
    """Short ones too."""
    assert not is_placeholder(credential)


@pytest.mark.parametrize(
    "header", ["x-openwebui-chat-id", "x-claude-code-session-id", "session-id", "x-session-id"]
)
def test_session_is_what_the_client_calls_it(header: str) -> None:
    """Whatever is said in it; the model is in the key, and the identifier itself is not told."""
    one: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}]}
    other: dict[str, Any] = {"messages": []}
    session = facts(one, headers={header: "chat-1"}).session
    assert session == facts(other, headers={header: "chat-1"}).session
    assert session != facts(one, headers={header: "chat-2"}).session
    assert session != facts({**one, "model": "n"}, headers={header: "chat-1"}).session
    assert "chat-1" not in session


@pytest.mark.parametrize("field", [{"prompt_cache_key": "k"}, {"user": "k"}, {"metadata": {"user_id": "k"}}])
def test_session_may_stand_in_the_body(field: dict[str, Any]) -> None:
    """As OpenAI's and Anthropic's clients send it."""
    one = {"messages": [{"role": "user", "content": "a"}], **field}
    other = {"messages": [], **field}
    assert facts(one, "/v1/chat/completions").session == facts(other, "/v1/chat/completions").session != ""


def test_session_of_a_silent_client_is_how_the_conversation_begins() -> None:
    """System prompt and first user message stay the same while it grows."""
    system = {"role": "system", "content": "Be brief."}
    first = {"role": "user", "content": [{"type": "text", "text": "Hello"}]}
    later = [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "And now?"}]
    session = facts({"messages": [system, first]}).session
    assert session == facts({"messages": [system, first, *later]}).session != ""
    assert session != facts({"messages": [first]}).session
    assert session != facts({"messages": [system, later[1]]}).session
    assert facts({"prompt": "x"}, "/api/generate").session != facts({"prompt": "y"}, "/api/generate").session


def test_embeddings_and_empty_requests_are_no_conversation() -> None:
    """There is no prefix to return to."""
    assert facts({"input": "a"}, "/api/embed").session == ""
    assert facts({"input": "a", "user": "u"}, "/v1/embeddings").session == ""
    assert facts({}).session == ""


@pytest.mark.parametrize(
    ("route", "body", "tokens"),
    [
        ("/api/generate", {"prompt": "a" * 400}, 100),
        ("/api/generate", {"prompt": "a" * 400, "system": "b" * 40, "suffix": "c"}, 111),
        ("/api/generate", {"prompt": "é" * 200, "context": [1, 2, 3]}, 103),
        ("/api/generate", {"prompt": "", "images": ["aaaa", "bbbb"]}, 2 * IMAGE_TOKENS),
        ("/api/chat", {"messages": [{"role": "user", "content": "a" * 400}]}, 105),
        (
            "/api/chat",
            {"messages": [{"role": "user", "content": "", "images": ["a" * 9000]}]},
            IMAGE_TOKENS + 5,
        ),
        ("/v1/completions", {"prompt": list(range(7))}, 7),
        ("/v1/embeddings", {"input": ["a" * 40, "b" * 80]}, 30),
        ("/api/chat", {"messages": None, "tools": 3.5}, 0),
    ],
)
def test_prompt_tokens_are_estimated_from_the_length_of_texts(
    route: str, body: dict[str, Any], tokens: int
) -> None:
    """Four bytes a token, a constant an image, one for each token that is given as a number."""
    assert facts(body, route).prompt_tokens == tokens


def test_an_image_in_parts_counts_as_one() -> None:
    """Its base64 is no text."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40000}}
    tokens = facts({"messages": [{"role": "user", "content": [image]}]}, "/v1/chat/completions").prompt_tokens
    assert IMAGE_TOKENS <= tokens < IMAGE_TOKENS + 20


def test_texts_to_embed_are_read_one_by_one() -> None:
    """Each has to fit into the context by itself; tokens in a list are one text."""
    assert facts({"input": ["a" * 40, "b" * 80]}, "/api/embed").longest_prompt_tokens == 20
    assert facts({"input": list(range(9))}, "/v1/embeddings").longest_prompt_tokens == 9
    assert facts({"prompt": "a" * 40}, "/api/generate").longest_prompt_tokens == 10


def test_a_body_nested_as_deep_as_a_body_may_be_is_counted() -> None:
    """What can be parsed can be counted."""
    depth = MAX_DEPTH - 1
    nested = b'{"model":"m","messages":' + b"[" * depth + b"]" * depth + b"}"
    assert OllamaSurface().parse("/api/chat", nested).facts.prompt_tokens == 0
