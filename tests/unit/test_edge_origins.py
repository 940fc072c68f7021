from __future__ import annotations

import pytest

from gateway.http.origins import Origins, is_local_host, preflight

HOST = "127.0.0.1:11434"
CLOSED = Origins(hostname="box")


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "http://127.0.0.1:11434",
        "https://127.0.0.1:11434",
        "http://localhost",
        "https://localhost:3000",
        "http://0.0.0.0:8080",
        "app://obsidian.md",
        "file://",
        "tauri://localhost",
        "vscode-webview://1a2b",
        "vscode-file://vscode-app",
    ],
)
def test_programs_and_local_pages_may_ask(origin: str) -> None:
    """As they may ask an Ollama; but no page may read answers while no origin is configured."""
    assert CLOSED.admits(origin, HOST)
    assert CLOSED.headers(origin) == {}


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://evil.example",
        "http://localhost.evil.example",
        "http://localhost:3000.evil.example",
        "http://127.0.0.1.evil.example",
        "chrome-extension://abc",
        "http://127.0.0.1:11434.evil.example",
        "HTTPS://EVIL.EXAMPLE",
    ],
)
def test_pages_of_others_may_not(origin: str) -> None:
    """Also those whose names begin like a local one, and those that hide their origin."""
    assert not CLOSED.admits(origin, HOST)


@pytest.mark.parametrize(
    ("pattern", "origin", "shared"),
    [
        ("https://chat.example", "https://chat.example", True),
        ("https://chat.example", "https://chat.example:8443", False),
        ("https://chat.example", "http://chat.example", False),
        ("https://chat.example", "https://chat.example.evil", False),
        ("https://*.example", "https://a.example", True),
        ("https://*.example", "https://a.b.example", True),
        ("https://*.example", "https://example", False),
        ("https://*.example", "https://aexample", False),
        ("https://*.example", "https://a.example:1", False),
        ("http://10.0.0.5:*", "http://10.0.0.5:3000", True),
        ("http://10.0.0.5:*", "http://10.0.0.51", False),
        ("chrome-extension://*", "chrome-extension://abc", True),
        ("*", "https://anything.example", True),
        ("*", "null", True),
    ],
)
def test_configured_origins_read_answers(pattern: str, origin: str, shared: bool) -> None:  # noqa: FBT001 -- a column of the table
    """Exactly those that the file names; a `*` stands for a host, its beginning or a port."""
    origins = Origins((pattern,), hostname="box")
    assert origins.shares(origin) is shared
    assert origins.admits(origin, HOST) is shared
    headers = origins.headers(origin)
    assert ("Access-Control-Allow-Origin" in headers) is shared
    if shared and pattern != "*":
        assert headers["Access-Control-Allow-Origin"] == origin
        assert headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in headers


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("box:11434", True),
        ("app.localhost", True),
        ("ollama.internal", True),
        ("nas.local:80", True),
        ("127.0.0.1:11434", True),
        ("[::1]:11434", True),
        ("[::1]", True),
        ("::1", True),
        ("0.0.0.0:5", True),
        ("192.168.1.5", True),
        ("10.1.2.3:99", True),
        ("8.8.8.8", False),
        ("evil.example", False),
        ("evil.example:11434", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("local", False),
        ("evil.example:", False),
    ],
)
def test_names_that_a_public_page_cannot_have(host: str, local: bool) -> None:  # noqa: FBT001 -- a column of the table
    """Only these may be asked for while the port is on loopback."""
    assert is_local_host(host, "box") is local
    assert Origins(hostname="box").admits("", host) is local


def test_a_port_that_others_reach_is_asked_under_any_name() -> None:
    """What its names are, nobody told; a page of the same name is of the same origin."""
    origins = Origins(loopback=False)
    assert origins.admits("", "gpu.example:11434")
    assert origins.admits("http://gpu.example:11434", "gpu.example:11434")
    assert not origins.admits("http://other.example", "gpu.example:11434")


def test_browsers_learn_which_headers_the_sdks_may_send() -> None:
    """All that begin as those of OpenAI's and Anthropic's packages do, and no others."""
    asked = "Authorization, x-stainless-new-one, anthropic-dangerous-direct-browser-access, x-evil"
    allowed = preflight(asked)["Access-Control-Allow-Headers"].split(", ")
    assert {"authorization", "content-type", "x-api-key"} <= set(allowed)
    assert {"x-stainless-new-one", "anthropic-dangerous-direct-browser-access"} <= set(allowed)
    assert "x-evil" not in allowed
