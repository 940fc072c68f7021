from __future__ import annotations

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scheduling.estimates import (
    DEFAULT_LOAD_BYTES_PER_S,
    DEFAULT_LOAD_S,
    DEFAULT_OUTPUT_TOKENS,
    DEFAULT_SERVICE_S,
    FAST_S,
    SLOW_S,
    Estimates,
)
from gateway.scheduling.names import Instance, Variant
from gateway.scheduling.rankings import Ranking, Rotation
from gateway.scheduling.sessions import MOST_REMEMBERED, Sessions

A, B = Variant("a"), Variant("b")
GIB = 2**30


def test_an_unknown_model_is_never_asked_for_and_has_the_defaults() -> None:
    """Before anything was measured."""
    estimates = Estimates()
    assert estimates.of(A).rate(0) == 0
    assert estimates.of(A).service_s("gpu") == DEFAULT_SERVICE_S
    assert estimates.of(A).output_tokens == DEFAULT_OUTPUT_TOKENS
    assert estimates.of(A).load_s("w0", 8 * GIB) == DEFAULT_LOAD_S + 8 * GIB / DEFAULT_LOAD_BYTES_PER_S
    assert estimates.of(A).size_bytes is None


def test_the_rate_is_the_larger_of_a_quick_and_a_slow_memory() -> None:
    """A burst counts at once, and a habit outlives a quiet hour."""
    estimates = Estimates()
    for _ in range(60):
        estimates.of(A).arrived(100)
    assert estimates.of(A).rate(100) == pytest.approx(60 / FAST_S)
    assert estimates.of(A).rate(100 + FAST_S) == pytest.approx(60 / FAST_S * exp(-1))
    assert estimates.of(A).rate(100 + SLOW_S) == pytest.approx(60 / SLOW_S * exp(-1))


def test_a_steady_stream_shows_its_rate() -> None:
    """Two requests a second for ten minutes."""
    estimates = Estimates()
    for number in range(1200):
        estimates.of(A).arrived(number / 2)
    assert estimates.of(A).rate(600) == pytest.approx(2, rel=0.05)


def test_a_measured_load_counts_more_than_what_others_took_there() -> None:
    """Without one of its own a model loads as fast as others there, against what their sizes let expect."""

    def by_size(size_bytes: int) -> float:
        return DEFAULT_LOAD_S + size_bytes / DEFAULT_LOAD_BYTES_PER_S

    estimates = Estimates()
    estimates.of(A).loaded("w0", 4.0, 8 * GIB)
    assert estimates.of(A).load_s("w0", 1) == 4.0
    assert estimates.of(B).load_s("w0", 4 * GIB) == pytest.approx(by_size(4 * GIB) * 4.0 / by_size(8 * GIB))
    assert estimates.of(B).load_s("w1", 4 * GIB) == estimates.of(B).load_s("w0", 4 * GIB)
    assert estimates.of(A).load_s("w1", 8 * GIB) == 4.0
    assert estimates.of(A).typical_load_s(1) == 4.0
    assert estimates.of(A).size_bytes == 8 * GIB


def test_a_new_measurement_moves_the_estimate_a_part_of_the_way() -> None:
    """Between what was believed and what was seen."""
    estimates = Estimates()
    estimates.of(A).loaded("w0", 4.0, GIB)
    estimates.of(A).loaded("w0", 8.0, GIB)
    assert 4.0 < estimates.of(A).load_s("w0", GIB) < 8.0
    for _ in range(200):
        estimates.of(A).finished("gpu", 20.0, 900)
    assert estimates.of(A).service_s("gpu") == pytest.approx(20.0)
    assert estimates.of(A).output_tokens == pytest.approx(900, rel=0.01)


def test_an_answer_without_a_count_teaches_no_length() -> None:
    """It broke off, or its worker does not count."""
    estimates = Estimates()
    estimates.of(A).finished("gpu", 1.0, None)
    assert estimates.of(A).output_tokens == DEFAULT_OUTPUT_TOKENS


def test_what_was_learned_outlives_the_gateway() -> None:
    """Times and sizes as they were, rates decayed by the time that went by, on a clock that begins anew."""
    before, after = Estimates(), Estimates()
    for _ in range(30):
        before.of(A).arrived(1000)
    before.of(A).loaded("w0", 4.0, GIB)
    before.of(A).prefilled("gpu", 3000, 2.0)
    before.of(A).finished("gpu", 9.0, 50)
    after.restore(before.export(1000), passed_s=FAST_S, now=7)
    assert after.of(A).rate(7) == pytest.approx(before.of(A).rate(1000) * exp(-1))
    assert after.of(A).load_s("w0", 1) == 4.0
    assert after.of(A).size_bytes == GIB
    assert after.of(A).service_s("gpu") == before.of(A).service_s("gpu")
    assert after.of(A).output_tokens == before.of(A).output_tokens
    assert after.of(A).prefill_tokens_per_s("gpu") == 1500


# Conversations ---------------------------------------------------------------------------


def test_a_conversation_is_known_where_it_was_answered_last() -> None:
    """By model; one without a name is none."""
    sessions = Sessions()
    sessions.answered("s", A, Instance("w0", 1), 100)
    sessions.answered("s", A, Instance("w1", 1), 200)
    sessions.answered("", A, Instance("w0", 1), 100)
    assert sessions.cached("s", A) == (Instance("w1", 1), 200)
    assert sessions.cached("s", B) is None
    assert sessions.cached("", A) is None


def test_of_very_many_conversations_the_oldest_are_forgotten() -> None:
    """One that goes on is not old."""
    sessions = Sessions()
    for number in range(MOST_REMEMBERED):
        sessions.answered(f"s{number}", A, Instance("w0", 1), 1)
    sessions.answered("s0", A, Instance("w0", 1), 2)
    sessions.answered("new", A, Instance("w0", 1), 1)
    assert sessions.cached("s0", A) is not None
    assert sessions.cached("s1", A) is None
    assert sessions.cached("new", A) is not None


# Rankings ----------------------------------------------------------------------------------

placings = st.lists(st.tuples(st.integers(0, 6), st.one_of(st.none(), st.integers(-3, 3).map(float))))


@given(placings, st.integers(0, 8))
def test_a_ranking_agrees_with_sorting_a_dictionary(
    placed: list[tuple[int, float | None]], most: int
) -> None:
    """Whatever is placed, moved and taken out."""
    ranking, plain = Ranking(), dict[int, float]()
    for number, key in placed:
        ranking.place(number, key)
        if key is None:
            plain.pop(number, None)
        else:
            plain[number] = key
    order = sorted(plain, key=lambda number: (plain[number], number))
    assert ranking.first(most) == order[:most]
    assert len(ranking) == len(plain)


puts = st.lists(st.tuples(st.integers(0, 9), st.booleans()))


@given(puts)
def test_a_rotation_agrees_with_a_set(put: list[tuple[int, bool]]) -> None:
    """Whatever is put in and taken out, twice or not at all."""
    rotation, plain = Rotation[int](), set[int]()
    for item, member in put:
        rotation.put(item, member=member)
        (plain.add if member else plain.discard)(item)
    assert len(rotation) == len(plain)
    assert set(rotation.some(10)) == plain


@given(st.integers(1, 30), st.integers(1, 8))
def test_a_rotation_shows_everything_in_turn(size: int, most: int) -> None:
    """Never more than asked for, never one twice in one look, and all in as few looks as that takes."""
    rotation = Rotation[int]()
    for item in range(size):
        rotation.put(item, member=True)
    seen: set[int] = set()
    for _ in range(-(-size // most)):
        some = rotation.some(most)
        assert len(some) == len(set(some)) == min(size, most)
        seen.update(some)
    assert seen == set(range(size))
