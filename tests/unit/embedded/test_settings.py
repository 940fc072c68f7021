"""The worker's environment."""

from __future__ import annotations

import math

import pytest

from supervisor.engines.embedded.settings import SettingsError, parse_settings

REQUIRED = {"CORRAL_GGUF_DIR": "/m"}


def test_what_is_not_given_has_a_default() -> None:
    """Only the directory must be given."""
    settings = parse_settings(REQUIRED, memory_bytes=7)
    assert (settings.host, settings.port) == ("127.0.0.1", 11434)
    assert (settings.num_parallel, settings.keep_alive_s, settings.memory_bytes) == (1, 300.0, 7)


@pytest.mark.parametrize(
    ("text", "seconds"), [("-1", math.inf), ("-1s", math.inf), ("0", 0.0), ("90", 90.0), ("1h30m", 5400.0)]
)
def test_keep_alive_is_seconds_or_a_duration(text: str, seconds: float) -> None:
    """Unlike in a request, a bare number needs no unit here."""
    assert parse_settings({**REQUIRED, "OLLAMA_KEEP_ALIVE": text}, memory_bytes=1).keep_alive_s == seconds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OLLAMA_HOST", "here"),
        ("OLLAMA_HOST", "127.0.0.1:99999"),
        ("OLLAMA_NUM_PARALLEL", "0"),
        ("OLLAMA_CONTEXT_LENGTH", "4"),
        ("OLLAMA_KEEP_ALIVE", "5 minutes"),
        ("CORRAL_MEMORY_BYTES", "4GiB"),
        ("CORRAL_GGUF_DIR", ""),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    """With what it should be."""
    with pytest.raises(SettingsError, match=name):
        parse_settings({**REQUIRED, name: value}, memory_bytes=1)
