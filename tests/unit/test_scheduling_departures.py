from __future__ import annotations

from dataclasses import replace

from gateway.scheduling.types import Reject, RejectReason, UnloadAsked
from tests.support.scheduler_stage import W0, W1, A, Stage, view, without


def test_requests_for_a_model_that_no_worker_has_any_more_are_refused_at_once() -> None:
    """A deleted model never comes back for them: they would wait until their deadline in vain."""
    stage = Stage([view(W0), view(W1)], obeys=False)
    waiting = [stage.arrive(A) for _ in range(3)]
    stage.tell_fleet(*(without(view(instance), A) for instance in (W0, W1)))
    refused = {effect.request: effect.rejection.reason for effect in stage.seen if isinstance(effect, Reject)}
    assert refused == dict.fromkeys(waiting, RejectReason.UNKNOWN_MODEL)


def test_requests_wait_on_while_one_worker_still_has_the_model() -> None:
    """It may be down; it is not gone."""
    stage = Stage([view(W0), view(W1)], obeys=False)
    stage.arrive(A)
    stage.tell_fleet(without(view(W0), A), replace(view(W1), ready=False))
    assert not [effect for effect in stage.seen if isinstance(effect, Reject)]


def test_a_deleted_model_leaves_memory_when_its_last_answer_ended() -> None:
    """Who already has a slot gets the whole answer."""
    stage = Stage([view(W0)])
    request = stage.arrive(A)
    stage.tell_fleet(without(view(W0), A))
    stage.feed(UnloadAsked(A))
    assert "Unload" not in stage.kinds()
    stage.finish(request)
    stage.later(0.0)
    assert stage.unloads() == [("w0", "a")]
