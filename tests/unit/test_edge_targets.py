from __future__ import annotations

import pytest

from gateway.http.edge import authority_of, chosen_id, plain_path


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/api/chat", "/api/chat"),
        ("/api/chat/", "/api/chat/"),
        ("/api/chat?a=//b/../c", "/api/chat"),
        ("/v1/models/library%2Fcount", "/v1/models/library/count"),
        ("/api/%63hat", "/api/chat"),
        ("http://localhost/api/chat?x", "/api/chat"),
        ("http://localhost", "/"),
        ("//api/chat", None),
        ("/api//chat", None),
        ("/api/./chat", None),
        ("/api/../chat", None),
        ("/api/%2e%2e/chat", None),
        ("/api/%2E/chat", None),
        ("/api%2F%2Fchat", None),
        ("/..", None),
        ("\\api\\chat", None),
        ("/api\\chat", None),
        ("/api/%5cchat", None),
        ("api/chat", None),
        ("*", None),
        ("http://a//api/chat", None),
    ],
)
def test_only_paths_that_mean_one_thing_to_everybody_are_plain(target: str, path: str | None) -> None:
    """Dots, empty segments and backslashes are read in as many ways as there are servers."""
    assert plain_path(target) == path


@pytest.mark.parametrize(
    ("target", "authority"),
    [
        ("http://evil.example:80/api/tags", "evil.example:80"),
        ("http://evil.example", "evil.example"),
        ("/api/tags", ""),
        ("/redirect?to=http://evil.example", ""),
        ("//evil.example/x", ""),
    ],
)
def test_target_in_absolute_form_names_a_host(target: str, authority: str) -> None:
    """Which goes before the header, so it is what is checked."""
    assert authority_of(target) == authority


@pytest.mark.parametrize("wanted", ["a", "0f-1_2.3", "x" * 64])
def test_sane_ids_of_clients_are_kept(wanted: str) -> None:
    """Their logs then match ours."""
    assert chosen_id(wanted) == wanted


@pytest.mark.parametrize("wanted", [None, "", "x" * 65, "a b", "a\n", 'a"', "ü", "a/b"])
def test_others_get_one_of_ours(wanted: str | None) -> None:
    """It goes into headers and logs, and into the argument of a command."""
    assert len(chosen_id(wanted)) == 16
    assert chosen_id(wanted) != chosen_id(wanted)
