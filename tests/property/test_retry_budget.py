"""The retry budget keeps its promises whatever comes when."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.relay.budget import LEAST, SHARE, WINDOW_S, RetryBudget

PAUSES = st.floats(0.0, 3 * WINDOW_S)
ACTS = st.lists(st.tuples(st.sampled_from(["request", "retry"]), PAUSES), max_size=200)


@given(ACTS)
def test_retries_never_exceed_their_share(acts: list[tuple[str, float]]) -> None:
    """In every span of time: a fifth of its requests and of those just before, and the least there is."""
    budget, now = RetryBudget(), 0.0
    requests: list[float] = []
    retries: list[float] = []
    for act, pause_s in acts:
        now += pause_s
        if act == "request":
            budget.asked(now)
            requests.append(now)
        else:
            retries.append(now + budget.reserve(now))
    for start in retries:
        for end in (retry for retry in retries if retry >= start):
            made = sum(start <= retry <= end for retry in retries)
            earned = LEAST * (1 + (end - start) / WINDOW_S) + SHARE * sum(asked <= end for asked in requests)
            assert made <= earned + 1e-6


@given(ACTS)
@example([("retry", 0.0), ("retry", 0.0), ("retry", 0.5), ("retry", 1.0)])
def test_after_a_quiet_window_the_least_is_there(acts: list[tuple[str, float]]) -> None:
    """Whatever was promised before has been used up by then."""
    budget, now, last = RetryBudget(), 0.0, 0.0
    for act, pause_s in acts:
        now += pause_s
        if act == "request":
            budget.asked(now)
        else:
            last = max(last, now + budget.reserve(now))
    quiet_at = max(now, last) + WINDOW_S
    assert [budget.reserve(quiet_at) for _ in range(int(LEAST))] == [0.0] * int(LEAST)
    assert budget.reserve(quiet_at + 1e-9) >= 0.0


@given(st.integers(1, 50))
def test_nobody_is_refused_but_told_when(failures: int) -> None:
    """However many fail at once, each gets a moment of its own, in order."""
    budget = RetryBudget()
    waits = [budget.reserve(0.0) for _ in range(failures)]
    assert waits == sorted(waits)
    assert max(waits) <= failures * WINDOW_S / LEAST


@given(ACTS, PAUSES)
def test_a_clock_that_stands_still_changes_nothing(acts: list[tuple[str, float]], at: float) -> None:
    """Time that seems to go back earns nothing."""
    budget = RetryBudget(at=at)
    for act, pause_s in acts:
        before = budget.tokens
        budget.reserve(at - pause_s) if act == "retry" else budget.asked(at - pause_s)
        assert budget.tokens <= before + SHARE
