"""The rules of residency, one by one."""

from __future__ import annotations

import math

import pytest

from supervisor.engines.embedded.residency import (
    Ask,
    AskId,
    Grant,
    Incarnation,
    Load,
    Reason,
    Refuse,
    Residency,
    Unload,
    Variant,
)

FIRST, SECOND = Incarnation(1), Incarnation(2)


def ask(
    number: int, model: str = "a", *, keep_alive_s: float | None = None, context: int = 8, weights: str = ""
) -> Ask:
    """Return a request for a model that takes 10 bytes and gets one slot."""
    return Ask(
        id=AskId(number),
        model=model,
        variant=Variant(weights or model, "w", context),
        slots=1,
        need_bytes=10,
        keep_alive_s=keep_alive_s,
    )


@pytest.fixture
def core() -> Residency:
    """A worker that may hold one model, and lets two wait."""
    return Residency(max_loaded=1, max_queue=2, memory_bytes=100, keep_alive_s=60.0)


def loaded(core: Residency, first: Ask, now: float = 0.0) -> None:
    """Let a request load its model and get its slot."""
    assert core.arrived(first, now) == [Load(FIRST, first.model, first.variant, 1)]
    assert core.loaded(FIRST, 10, now) == [Grant(first.id, FIRST)]


def test_the_queue_takes_exactly_its_limit(core: Residency) -> None:
    """One computes, two wait, the next is refused."""
    loaded(core, ask(0))
    assert core.arrived(ask(1), 1.0) == []
    assert core.arrived(ask(2), 1.0) == []
    assert core.arrived(ask(3), 1.0) == [Refuse(AskId(3), Reason.QUEUE_FULL)]


def test_a_free_slot_goes_to_the_one_that_waits_longest(core: Residency) -> None:
    """First in, first out."""
    loaded(core, ask(0))
    core.arrived(ask(1), 1.0)
    core.arrived(ask(2), 1.0)
    assert core.left(AskId(0), 2.0) == [Grant(AskId(1), FIRST)]


def test_a_busy_model_that_must_go_takes_no_newer_request(core: Residency) -> None:
    """Otherwise a stream of requests for it would keep the other model out for ever."""
    loaded(core, ask(0))
    assert core.arrived(ask(1, "b"), 1.0) == []
    assert core.arrived(ask(2, "a"), 1.0) == []
    assert core.left(AskId(0), 2.0) == [Unload(FIRST, "room for b")]
    assert core.gone(FIRST, 3.0) == [Load(SECOND, "b", Variant("b", "w", 8), 1)]


def test_another_context_length_replaces_the_runner_once_it_is_idle(core: Residency) -> None:
    """As Ollama reloads for another num_ctx."""
    loaded(core, ask(0))
    assert core.arrived(ask(1, context=16), 1.0) == []
    assert core.left(AskId(0), 2.0) == [Unload(FIRST, "room for a")]
    assert core.gone(FIRST, 3.0) == [Load(SECOND, "a", Variant("a", "w", 16), 1)]


def test_keep_alive_counts_from_the_end_of_the_last_request(core: Residency) -> None:
    """A busy model has no deadline."""
    loaded(core, ask(0))
    assert core.next_deadline() is None
    core.left(AskId(0), 100.0)
    assert core.next_deadline() == 160.0
    assert core.tick(159.9) == []
    assert core.tick(160.0) == [Unload(FIRST, "expired")]


def test_keep_alive_sticks_until_another_request_sets_it(core: Residency) -> None:
    """A request without one changes nothing."""
    loaded(core, ask(0, keep_alive_s=math.inf))
    core.left(AskId(0), 1.0)
    core.arrived(ask(1), 2.0)
    core.left(AskId(1), 3.0)
    assert core.next_deadline() == math.inf
    core.arrived(ask(2, keep_alive_s=5.0), 4.0)
    core.left(AskId(2), 5.0)
    assert core.next_deadline() == 10.0


def test_a_failed_load_answers_all_who_wait_for_it_and_no_others(core: Residency) -> None:
    """They get the reason; the next model's turn comes."""
    core.arrived(ask(0), 0.0)
    core.arrived(ask(1, "b"), 0.0)
    assert core.load_failed(FIRST, "broken", 1.0) == [
        Refuse(AskId(0), Reason.LOAD_FAILED, "broken"),
        Load(SECOND, "b", Variant("b", "w", 8), 1),
    ]


def test_a_load_that_nobody_waits_for_any_more_is_ended(core: Residency) -> None:
    """It may be one that comes to no end; who asks for the model again gets a load of his own."""
    core.arrived(ask(0), 0.0)
    core.arrived(ask(1), 0.0)
    assert core.left(AskId(0), 1.0) == []
    assert core.left(AskId(1), 1.0) == [Unload(FIRST, "nobody waits for it any more")]
    assert core.arrived(ask(2), 1.0) == []
    assert core.load_failed(FIRST, "killed", 2.0) == [Load(SECOND, "a", ask(2).variant, 1)]


def test_a_runner_that_died_is_loaded_again_for_those_who_wait(core: Residency) -> None:
    """Those it was computing for have lost their answer; the others have not."""
    loaded(core, ask(0))
    core.arrived(ask(1), 1.0)
    assert core.gone(FIRST, 2.0) == [Load(SECOND, "a", Variant("a", "w", 8), 1)]
    assert core.left(AskId(0), 3.0) == []


def test_unload_waits_for_the_request_that_computes(core: Residency) -> None:
    """Then it goes without another word."""
    loaded(core, ask(0))
    assert core.unload("a", "a", 1.0) == []
    assert core.left(AskId(0), 2.0) == [Unload(FIRST, "expired")]


def test_a_model_larger_than_the_memory_is_refused_at_once(core: Residency) -> None:
    """Nothing is unloaded for what cannot fit."""
    loaded(core, ask(0))
    huge = Ask(id=AskId(1), model="b", variant=Variant("b", "w", 8), slots=1, need_bytes=101)
    assert core.arrived(huge, 1.0) == [Refuse(AskId(1), Reason.NO_MEMORY, need_bytes=101)]


def test_names_over_the_same_weights_share_a_runner(core: Residency) -> None:
    """The second name needs no load and no room; both are then served by the one runner."""
    core.max_queue = 5
    core.arrived(ask(0, "a", weights="w"), 0.0)
    assert core.loaded(FIRST, 10, 0.0) == [Grant(AskId(0), FIRST)]
    assert core.left(AskId(0), 1.0) == []
    assert core.arrived(ask(1, "b", weights="w"), 2.0) == [Grant(AskId(1), FIRST)]
    assert [r.names for r in core.residents] == [["a", "b"]]


def test_unload_of_a_name_leaves_the_runner_to_the_other_names_requests(core: Residency) -> None:
    """The name goes at once, the runner stays with those who compute."""
    core.arrived(ask(0, "a", weights="w"), 0.0)
    core.loaded(FIRST, 10, 0.0)
    core.left(AskId(0), 1.0)
    core.arrived(ask(1, "b", weights="w"), 2.0)
    assert core.unload("a", "w", 3.0) == []
    assert [r.names for r in core.residents] == [["b"]]
    assert core.left(AskId(1), 4.0) == []
    assert core.unload("b", "w", 5.0) == [Unload(FIRST, "expired")]


def test_unload_finds_the_runner_by_its_weights(core: Residency) -> None:
    """Its name may stand for other weights by now, which have a runner of their own."""
    core.max_loaded = 2
    for number, weights in enumerate(("old", "new")):
        core.arrived(ask(number, "a", weights=weights), 0.0)
        core.loaded((FIRST, SECOND)[number], 10, 0.0)
        core.left(AskId(number), 1.0)
    assert core.unload("a", "new", 2.0) == [Unload(SECOND, "expired")]
    assert core.unload("a copy of the old one", "old", 3.0) == [Unload(FIRST, "expired")]
