"""`scripts/bench chaos --quick`: what many clients see while one thing after the other breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.figures.chaos import chaos, report
from tests.support.ollama_store import ENGINES, environment


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_refused_or_lost_and_whatever_broke_was_told(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """600 requests of four clients through six faults; the table says what was missed, and in which fault."""
    if engine == "ollama":
        for name, value in environment(tmp_path).items():
            monkeypatch.setenv(name, value)
    size = chaos.Size(seed=1, requests=chaos.QUICK_REQUESTS, faults=chaos.QUICK_FAULTS)
    found = chaos.chaos(tmp_path, engine, size)
    assert not found["missed"], "\n".join(report.in_words(found))
    assert found["asked"] >= chaos.QUICK_REQUESTS
    assert len(found["faults"]) == chaos.QUICK_FAULTS
