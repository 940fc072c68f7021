"""Stop words: what is held back, what ends an answer, and what comes out when nothing follows."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from supervisor.engines.embedded.events import End, Piece, Reader
from supervisor.engines.embedded.stops import Stops

TIMINGS = {"prompt_n": 2, "predicted_n": 4}
LETTERS = st.text("ab", max_size=30)


@given(LETTERS, st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.integers(1, 5))
def test_an_answer_ends_before_the_first_stop_word_however_it_comes(
    text: str, words: list[str], size: int
) -> None:
    """Nothing of it is sent, and nothing before it is lost."""
    stops, told, found = Stops(words), "", None
    for at in range(0, len(text), size):
        certain, found = stops.add(text[at : at + size])
        told += certain
        if found is not None:
            break
    places = [text.find(word) for word in words if word in text]
    if found is None:
        assert not places
        assert told + stops.end() == text
    else:
        assert told == text[: text.index(found)]
        assert not any(word in told for word in words)


def chat_item(text: str, **fields: Any) -> dict[str, Any]:
    """Return an object of llama.cpp's chat stream."""
    return {"choices": [{"delta": {"content": text}, "finish_reason": None} | fields], "timings": TIMINGS}


def test_a_stop_word_in_a_chat_ends_it_with_its_name() -> None:
    """The figures are those of the token that completed it."""
    reader = Reader(["3"])
    assert list(reader.read(chat_item("1 "))) == [Piece(content="1 ")]
    piece, end = reader.read(chat_item("2 3 4"))
    assert piece == Piece(content="2 ")
    assert isinstance(end, End)
    assert (end.reason, end.stop_word, end.answer_tokens) == ("stop", "3", 4)


def test_what_was_held_back_in_a_chat_comes_when_the_limit_ends_it() -> None:
    """It might have become a stop word, and did not."""
    reader = Reader([" 3 x"])
    assert list(reader.read(chat_item(" 3"))) == []
    piece, end = reader.read(chat_item("", finish_reason="length"))
    assert piece == Piece(content=" 3")
    assert isinstance(end, End)
    assert end.reason == "length"


def test_tokens_that_llama_cpp_held_back_are_told_with_the_limit() -> None:
    """Those since the last text; the tokens of the prompt's progress are none."""
    reader = Reader()
    list(reader.read({"content": "", "tokens": [0], "prompt_progress": {"total": 3}}))
    list(reader.read({"content": "1", "tokens": [5]}))
    list(reader.read({"content": "", "tokens": [6]}))
    list(reader.read({"content": "", "tokens": [7]}))
    (end,) = reader.read({"content": "", "stop": True, "stop_type": "limit", "timings": TIMINGS})
    assert isinstance(end, End)
    assert end.held == (6, 7)
