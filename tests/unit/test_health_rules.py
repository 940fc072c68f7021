from __future__ import annotations

import pytest

from gateway.health.rounds import LOAD_MARGIN, Question, Sight, question_for
from gateway.health.signs import Alive, Ill, Silent, sign_of
from gateway.relay.outcome import Broken, Failing, NotSent, Outcome, Phase, Refused, TimedOut
from gateway.relay.patience import MARGIN, Expected, first_byte_s

IDLE = Sight(suspected=False, busy=0, loading_s=None, has_free_slot=True)


@pytest.mark.parametrize(
    ("sight", "question"),
    [
        (IDLE, Question.TOKEN),
        (Sight(suspected=False, busy=0, loading_s=None), Question.VERSION),
        (Sight(suspected=False, busy=1, loading_s=None, has_free_slot=True), Question.VERSION),
        (Sight(suspected=True, busy=1, loading_s=None, has_free_slot=True), Question.TOKEN),
        (Sight(suspected=True, busy=2, loading_s=None), Question.VERSION),
        (Sight(suspected=False, busy=0, loading_s=100.0, load_s=30.0), Question.NOTHING),
        (Sight(suspected=False, busy=0, loading_s=61.0 + LOAD_MARGIN * 30.0, load_s=30.0), Question.VERSION),
        (Sight(suspected=True, busy=0, loading_s=1.0, load_s=30.0), Question.VERSION),
    ],
)
def test_a_worker_is_asked_the_least_that_tells(sight: Sight, question: Question) -> None:
    """Nothing while it loads in time, no token where it computes for clients or has nothing loaded."""
    assert question_for(sight, patience_s=60.0) is question


@pytest.mark.parametrize(
    ("outcome", "sign"),
    [
        (Refused(503, "busy"), Alive),
        (TimedOut(Phase.CONNECT, 5), Silent),
        (NotSent("refused"), Ill),
        (Broken(0, "reset"), Ill),
        (Failing(500, "CUDA error"), Ill),
    ],
)
def test_an_answer_of_any_kind_is_a_sign_of_life(outcome: Outcome, sign: type) -> None:
    """Silence alone is suspicious; what is refused is no fault."""
    assert isinstance(sign_of(outcome), sign)


def test_the_time_to_the_first_byte_follows_what_is_known() -> None:
    """A measured speed, what shares the worker, a load that may be hidden, an answer in one piece."""
    prompt = Expected(prompt_tokens=1000, tokens_per_s=500.0)
    assert first_byte_s(prompt, least_s=60.0) == 60.0 + MARGIN * 2.0
    shared = Expected(prompt_tokens=1000, tokens_per_s=500.0, busy=4)
    assert first_byte_s(shared, least_s=60.0) == 60.0 + 4 * MARGIN * 2.0
    more = Expected(prompt_tokens=0, tokens_per_s=500.0, load_s=30.0, answer_s=10.0)
    assert first_byte_s(more, least_s=60.0) == 60.0 + MARGIN * 40.0


def test_a_speed_that_was_never_measured_is_taken_for_slow() -> None:
    """A long prompt on an old CPU is no hang."""
    unknown = Expected(prompt_tokens=30_000, tokens_per_s=None)
    assert first_byte_s(unknown, least_s=60.0) > 1000
