"""Our renderer makes of every template what a real Ollama made of it."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.contract.renderings import RECORDING, TEMPLATES, TURNS, asked, rendered, today
from tests.support.models import counting_model
from tests.support.real_ollama import MISSING, binary, real_ollama

SOURCE = "CORRAL_TEST_OLLAMA_SOURCE"
RECORDED: dict[str, dict[str, str]] = json.loads(RECORDING.read_text())


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_rendered_as_recorded(name: str) -> None:
    """To the letter, for every conversation; what the server refuses is refused."""
    ours = {turn: rendered(TEMPLATES[name], body, date(2025, 2, 1)) for turn, body in TURNS.items()}
    assert ours == RECORDED[name]


def test_every_template_and_turn_is_recorded() -> None:
    """One that was added or renamed needs a new recording."""
    assert {name: set(turns) for name, turns in RECORDED.items()} == {name: set(TURNS) for name in TEMPLATES}


def test_the_templates_of_an_ollama_source_tree_are_rendered_as_by_the_server(tmp_path: Path) -> None:
    """Those it knows by name; they are not ours to keep, so this runs where the tree and a server are."""
    tree, server = os.environ.get(SOURCE), binary()
    if tree is None or server is None:
        pytest.skip(MISSING if tree else f"{SOURCE} names no source tree of Ollama")
    sources = {path.name: path.read_text() for path in Path(tree).glob("template/*.gotmpl")}
    assert sources
    theirs: dict[str, Any] = {}
    with real_ollama(server, tmp_path) as running:
        running.create("count", counting_model(tmp_path))
        theirs = {name: asked(running, source) for name, source in sources.items()}
    ours = {
        name: {turn: rendered(source, body, today()) for turn, body in TURNS.items()}
        for name, source in sources.items()
    }
    assert ours == theirs
