"""The reciting model's arithmetic: how texts are cut, and what is refused."""

from pathlib import Path

import pytest

from scripts.recipes.reciting import ANYTHING, _cut, reciting


def test_pieces_are_the_text_and_each_is_found_once() -> None:
    """So a piece alone tells which one follows, over all texts of a model."""
    texts = ["a rose is a rose is a rose.", "a  rose\n is no tulip\n"]
    pieces = _cut(texts)
    assert ["".join(line) for line in pieces] == texts
    every = [piece for line in pieces for piece in line]
    assert len(set(every)) == len(every)
    assert all(len(piece) > 1 for piece in every)


def test_a_text_that_ends_as_another_is_refused(tmp_path: Path) -> None:
    """Its last piece could not tell which text it ends."""
    with pytest.raises(ValueError, match="the end"):
        reciting(tmp_path / "model.gguf", name="model", texts={ANYTHING: "to the end", " cue": "the end"})


def test_a_model_needs_a_text_for_prompts_without_a_cue(tmp_path: Path) -> None:
    """Every prompt has an answer."""
    with pytest.raises(ValueError, match="without a cue"):
        reciting(tmp_path / "model.gguf", name="model", texts={" cue": "never"})
