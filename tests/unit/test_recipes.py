"""The recipes' arithmetic: tokens, odds, topics, stamps and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.recipes.__main__ import RECIPES, main
from scripts.recipes.byte_pairs import TURN_END, Vocabulary, encode, spell
from scripts.recipes.counting import counting
from scripts.recipes.grammar import START, grammar
from scripts.recipes.llama_gguf import RECIPE_KEY, Shape
from scripts.recipes.prose import key, paragraphs, topics
from scripts.recipes.stamp import is_made_by, stamp


@given(st.lists(st.text("abc ", min_size=1, max_size=6), max_size=30))
def test_every_word_of_a_vocabulary_is_one_token(words: list[str]) -> None:
    """Words learned later never break those learned before."""
    vocabulary = Vocabulary.of(words)
    ranks = {merge: rank for rank, merge in enumerate(vocabulary.merges)}
    assert all(encode(spell(word), ranks) == [spell(word)] for word in words)
    assert all(vocabulary.tokens[vocabulary.word(word)] == spell(word) for word in words)


def test_a_vocabulary_spells_every_byte() -> None:
    """Text in any script has tokens, because each byte is one."""
    vocabulary = Vocabulary.of([])
    assert all(letter in vocabulary.ids for letter in spell("Häuptling 日本"))
    assert len(set(vocabulary.tokens)) == len(vocabulary)


def test_odds_add_up_to_one() -> None:
    """Cutting rare followers and mixing in strays loses no probability."""
    known = grammar(paragraphs())
    for odds in (*known.after_one.values(), *known.after_two.values()):
        assert sum(odds.values()) == pytest.approx(1)


def test_an_answer_can_begin_and_end() -> None:
    """Something follows the start; the end follows a full stop and nothing else."""
    known = grammar(paragraphs())
    assert all(token[0].isupper() for token in known.after_one[START])
    assert {word for word, odds in known.after_one.items() if TURN_END in odds} == {"."}


def test_a_pair_says_more_than_its_second_word() -> None:
    """What follows `does not` is mostly what followed it in the text."""
    lines = [["he", " does", " not", " run"], ["do", " not", " stop"], ["do", " not", " go"]]
    odds = grammar(lines).after_two["does", "not"]
    assert max(odds, key=odds.__getitem__) == " run"
    assert set(odds) == {" run", " stop", " go"}


def test_the_text_is_words_and_stops_only() -> None:
    """What the tokens spell is the text: no character is lost on the way."""
    lines = Path(topics.__code__.co_filename).with_name("text.txt").read_text("ascii").splitlines()
    assert ["".join(line) for line in paragraphs()] == lines
    assert all(key(line[-1]) in {".", "?"} for line in paragraphs())


@pytest.mark.parametrize(
    ("word", "near", "far"),
    [
        ("horse", "saddle", "token"),
        ("rain", "wind", "model"),
        ("token", "stream", "barn"),
        ("cook", "coffee", "card"),
    ],
)
def test_words_that_share_paragraphs_share_a_direction(word: str, near: str, far: str) -> None:
    """Topics rank a related word above an unrelated one."""
    subjects = topics(62)
    one, other, stranger = (subjects.vectors[subjects.words.index(each)] for each in (word, near, far))
    assert np.dot(one, other) > np.dot(one, stranger) + 0.1


def test_a_stamp_is_found_in_what_the_recipe_made(tmp_path: Path) -> None:
    """Another stamp, or no file, means that it must be built."""
    path = tmp_path / "model.gguf"
    assert not is_made_by(stamp("counting", "model"), path)
    counting(path, name="model")
    assert RECIPE_KEY.encode() in path.read_bytes()[:200]
    assert is_made_by(stamp("counting", "model"), path)
    assert not is_made_by(stamp("counting", "other"), path)


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that was there stays, and no unfinished one is left beside it."""
    path = tmp_path / "count.gguf"
    path.write_bytes(b"before")

    def full(_self: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gguf.GGUFWriter.write_tensors_to_file", full)
    with pytest.raises(OSError, match="No space"):
        counting(path, words=10)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"before"]


def test_impossible_shapes_are_refused() -> None:
    """Sizes that no transformer has are an error that names them."""
    with pytest.raises(ValueError, match="width 100 is no multiple"):
        Shape(width=100, heads=3)
    with pytest.raises(ValueError, match="at least one word"):
        counting(Path("never.gguf"), words=0)


def test_the_command_builds_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both default models are built, and the second time nothing is touched."""
    assert main([str(tmp_path), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert [(made["name"], made["built"]) for made in first] == [
        ("corral-demo", True),
        ("corral-embed", True),
    ]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["corral-demo.gguf", "corral-embed.gguf"]
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("up to date") == 2


def test_the_command_builds_a_chosen_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--only count` makes count.gguf and no other, and says so to a person."""
    assert main([str(tmp_path), "--only", "count"]) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["count.gguf"]
    assert "count.gguf: counts to 2000, for testing a client, 6." in capsys.readouterr().out


def test_the_command_says_why_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory that cannot be made is one sentence on stderr and exit code 2."""
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file" / "models")]) == 2
    assert "cannot write models into" in capsys.readouterr().err


def test_a_file_is_recognised_by_the_recipe_that_the_command_names(tmp_path: Path) -> None:
    """The command's stamp and the writer's stamp are the same, for every recipe."""
    for recipe in RECIPES:
        path = tmp_path / f"{recipe.name}.gguf"
        recipe.build(path)
        assert is_made_by(recipe.stamp, path)
