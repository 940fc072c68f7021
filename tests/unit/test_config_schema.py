from __future__ import annotations

import pytest

from supervisor.contract.durations import InvalidDurationError, parse_go_duration, parse_keep_alive
from supervisor.contract.names import InvalidModelNameError, ModelName
from supervisor.contract.values import parse_size, shown


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("5m", 300),
        ("1h30m", 5400),
        ("-1.5s", -1.5),
        ("+.5s", 0.5),
        ("1.s", 1),
        ("3ms", 0.003),
        ("2µs", 2e-6),
    ],
)
def test_durations_are_go_durations(text: str, seconds: float) -> None:
    """Clients and files write what Ollama takes."""
    assert parse_go_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        (".s", 'time: invalid duration ".s"'),
        ("5", 'time: missing unit in duration "5"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ("1h 2m", 'time: unknown unit "h " in duration "1h 2m"'),
        ("٣s", 'time: invalid duration "٣s"'),
        ("9223372037s", 'time: invalid duration "9223372037s"'),
        ("9" * 400 + "h", f'time: invalid duration "{"9" * 400}h"'),
    ],
)
def test_what_go_refuses_is_refused_in_its_words(text: str, reason: str) -> None:
    """The text reaches clients, which know it from the real server."""
    with pytest.raises(InvalidDurationError) as caught:
        parse_go_duration(text)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("value", "seconds"), [(0, 0.0), (1.5, 1.5), (-1, None), ("-1s", None), ("10m", 600.0), (10**18, 1e18)]
)
def test_a_negative_keep_alive_is_for_ever(value: object, seconds: float | None) -> None:
    """A number is seconds, a text needs a unit."""
    assert parse_keep_alive(value) == seconds


@pytest.mark.parametrize("value", [None, True, [], {}, float("nan"), float("inf"), 10**400, "5", "ever"])
def test_what_is_no_keep_alive_is_refused(value: object) -> None:
    """Numbers that no float holds must not end in a crash."""
    with pytest.raises(InvalidDurationError):
        parse_keep_alive(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [(1, 1), ("1B", 1), ("20GiB", 20 * 2**30), ("512 MB", 512 * 10**6), ("1.5kB", 1500), ("0.5 TiB", 2**39)],
)
def test_sizes_have_units(value: object, size: int) -> None:
    """Powers of 1024 and of 1000, as written."""
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value",
    [0, -1, True, None, 1.5, "", "20", "0GiB", "20gb", "20G", "-1GiB", "1e3MiB", "٣MiB", "9" * 400 + "MiB"],
)
def test_what_is_no_size_is_refused(value: object) -> None:
    """A size without a unit is a mistake more often than a number of bytes."""
    with pytest.raises(ValueError, match="size"):
        parse_size(value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Count", "registry.ollama.ai/library/count:latest"),
        (" a:B ", "registry.ollama.ai/library/a:b"),
        ("me/a", "registry.ollama.ai/me/a:latest"),
        ("host:80/me/a.gguf:q4", "host:80/me/a.gguf:q4"),
        ("https://hf.co/me/a", "hf.co/me/a:latest"),
    ],
)
def test_a_model_name_is_completed_as_ollama_does(text: str, key: str) -> None:
    """Two names with one key are one model."""
    assert ModelName.parse(text).key == key


@pytest.mark.parametrize(
    "text", ["", ":", "a:", "/a", "a//b", "a/b/c/d", "-a", "a b", "x.y/a", "https://a", "a" * 81]
)
def test_what_ollama_refuses_is_no_model_name(text: str) -> None:
    """A name from a request becomes part of a path."""
    with pytest.raises(InvalidModelNameError):
        ModelName.parse(text)


@pytest.mark.parametrize("text", ["a:latest", "me/a:q4", "host/me/a:q4"])
def test_the_short_name_is_what_ollama_prints(text: str) -> None:
    """And means the same model."""
    assert ModelName.parse(text).short == text


def test_values_in_mistakes_are_short() -> None:
    """A wrong value may be a whole file."""
    assert shown("a" * 1000) == '"' + "a" * 56 + "..."
