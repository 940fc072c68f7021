from __future__ import annotations

from dataclasses import replace

from gateway.scheduling.names import Variant
from gateway.scheduling.reasons import LoadCause
from gateway.scheduling.types import Grant, Load, Loaded, Observed, ReplicaBounds, WorkerView
from supervisor.contract.config import SchedulingConfig
from tests.support.scheduler_stage import W0, W1, W2, A, B, C, Stage, resident, view


def roomy(*names: object, slots: int = 4) -> list[WorkerView]:
    """Workers for three models each."""
    return [view(name, loaded=3, slots=slots) for name in names]  # type: ignore[arg-type] # instances


def held(stage: Stage, *where: tuple[object, Variant], slots: int = 4) -> None:
    """Have workers hold models already."""
    for instance in dict.fromkeys(instance for instance, _ in where):
        models = [variant for other, variant in where if other == instance]
        stage.feed(Observed(instance, {variant: resident(slots) for variant in models}))  # type: ignore[arg-type]


# Which replica --------------------------------------------------------------------------


def test_of_two_replicas_the_one_without_other_active_models_is_taken() -> None:
    """Two models that compute on one device slow each other down."""
    stage = Stage(roomy(W0, W1))
    held(stage, (W0, A), (W0, B), (W1, A))
    stage.arrive(B)
    assert stage.where(stage.arrive(A)) == "w1"


def test_of_two_replicas_the_one_that_reads_no_long_prompt_is_taken() -> None:
    """A new prompt would stand behind the one that is being read there."""
    stage = Stage(roomy(W0, W1))
    held(stage, (W0, A), (W1, A))
    first = stage.arrive(A, prompt_tokens=100_000)
    assert stage.where(first) == "w0"
    assert [stage.where(stage.arrive(A)) for _ in range(3)] == ["w1", "w1", "w1"]


def test_a_prompt_that_is_read_stands_in_nobodys_way() -> None:
    """Its slot counts on, its prompt does not."""
    stage = Stage(roomy(W0, W1), policy=SchedulingConfig(crowding=0.0))
    held(stage, (W0, A), (W1, A))
    first = stage.arrive(A, prompt_tokens=100_000)
    stage.answer(first)
    assert stage.where(stage.arrive(A)) == "w0"


def test_a_conversation_returns_to_where_its_prefix_is_cached() -> None:
    """Although another worker is as idle and comes first by name."""
    stage = Stage(roomy(W0, W1))
    held(stage, (W0, A), (W1, A))
    stage.arrive(A, prompt_tokens=5000)
    turn = stage.arrive(A, session="s", prompt_tokens=4000)
    assert stage.where(turn) == "w1"
    stage.finish(turn, output=10)
    for request in stage.grants()[:1]:
        stage.finish(request)
    assert stage.where(stage.arrive(A, session="s", prompt_tokens=4010)) == "w1"


def test_conversations_do_not_pile_up_on_one_worker() -> None:
    """Beyond a bound of the mean load they go where there is room."""
    stage = Stage(roomy(W0, W1, slots=8), policy=SchedulingConfig(crowding=0.0))
    held(stage, (W0, A), (W1, A), slots=8)
    for number in range(8):
        stage.use(A, session=f"s{number}", prompt_tokens=4000)
    places = [stage.where(stage.arrive(A, session=f"s{n}", prompt_tokens=4000)) for n in range(8)]
    assert 3 <= places.count("w1") <= 5


def test_a_grant_tells_the_numbers_that_were_compared() -> None:
    """The chosen one first, and the best others."""
    stage = Stage(roomy(W0, W1))
    held(stage, (W0, A), (W1, A))
    stage.arrive(A)
    (grant,) = (effect for effect in stage.seen if isinstance(effect, Grant))
    assert [option.instance for option in grant.reason.options] == [W0, W1]


# Where a model is loaded -------------------------------------------------------------------


def test_free_room_is_taken_before_anything_is_evicted() -> None:
    """An eviction costs what the victim is worth."""
    stage = Stage([view(W0), view(W1), view(W2)])
    held(stage, (W0, A), (W1, B))
    stage.use(A)
    stage.use(B)
    stage.now = 50
    stage.arrive(C)
    assert stage.loads() == [("w2", "c")]
    assert stage.unloads() == []


def test_a_worker_that_loads_already_takes_no_second_load() -> None:
    """The next model goes to another, however much room there is."""
    stage = Stage(roomy(W0, W1), obeys=False)
    for variant in (A, B, C):
        stage.arrive(variant)
    assert stage.loads() == [("w0", "a"), ("w1", "b")]


def test_a_further_replica_is_not_loaded_for_a_short_wait() -> None:
    """One request that waits for one of many slots does not repay a load."""
    stage = Stage(
        [view(W0, slots=3), view(W1)],
        policy=SchedulingConfig(load_repay=2.0, idle_repay=2.0),
        knows_answers=True,
    )
    held(stage, (W0, A), slots=3)
    for _ in range(4):
        stage.arrive(A)
    assert stage.loads() == []


def test_a_further_replica_repays_sooner_where_nothing_computes() -> None:
    """A load there slows nobody; on a worker that computes it has to save more."""
    for busy in (False, True):
        policy = SchedulingConfig(load_repay=100.0, idle_repay=0.1)
        stage = Stage([view(W0, slots=2, loaded=2), view(W1, loaded=2)], policy=policy, knows_answers=True)
        held(stage, (W0, A), (W1, B), slots=2)
        if busy:
            stage.arrive(B)
        for _ in range(3):
            stage.arrive(A)
        assert stage.loads() == ([] if busy else [("w1", "a")])


def test_a_further_replica_is_not_worth_what_it_would_evict() -> None:
    """While a model without any replica takes the same place."""
    stage = Stage([view(W0), view(W1)], policy=SchedulingConfig(replica_cost=0.5), knows_answers=True)
    held(stage, (W0, A), (W1, B), slots=2)
    for _ in range(20):
        answer = stage.arrive(B)
        stage.now += 5
        stage.finish(answer)
    for _ in range(3):
        stage.arrive(A)
    assert stage.loads() == []
    stage.arrive(C)
    stage.later(5)
    assert stage.loads() == [("w1", "c")]


def test_a_load_tells_why_and_what_else_was_considered() -> None:
    """With the numbers."""
    stage = Stage(roomy(W0, W1))
    stage.arrive(A)
    (load,) = (effect for effect in stage.seen if isinstance(effect, Load))
    assert load.reason.cause is LoadCause.FIRST
    assert load.reason.expected_wait_s is None
    assert [option.instance for option in load.reason.options] == [W0, W1]


def test_a_model_that_fits_nowhere_is_refused_with_the_numbers() -> None:
    """At the door, and not after it has waited."""
    stage = Stage([replace(view(W0, memory=3))])
    assert stage.refusal(stage.arrive(A)) == "no_memory"


def test_a_model_that_measured_less_than_estimated_fits_where_it_did_not() -> None:
    """What was measured counts from then on."""
    workers = [replace(view(instance, loaded=2), memory_bytes=6) for instance in (W0, W1)]
    stage = Stage(workers, knows_answers=True)
    stage.feed(Observed(W0, {A: resident(2, size=2)}))
    stage.feed(Observed(W1, {B: resident(2, size=4)}))
    for _ in range(3):
        stage.arrive(A)
    assert stage.loads() == [("w1", "a")]


def test_a_further_replica_is_not_loaded_on_a_guess() -> None:
    """While no answer was measured those who wait are expected to wait only as long again as they have."""
    stage = Stage([view(W0), view(W1)])
    for _ in range(3):
        stage.arrive(A)
    assert stage.loads() == [("w0", "a")]
    stage.later(3)
    assert stage.loads() == [("w0", "a"), ("w1", "a")]


def test_a_load_that_was_quicker_than_expected_is_expected_to_be_so() -> None:
    """A further replica then repays its load sooner: here one of 0.1 s and not of a second."""
    policy = SchedulingConfig(idle_repay=2.0)
    stage = Stage([view(W0, slots=4), view(W1, slots=4)], policy=policy, obeys=False, knows_answers=True)
    stage.arrive(A)
    stage.now += 0.1
    stage.feed(Loaded(W0, A, resident(4)))
    for _ in range(3):
        stage.arrive(A)
    assert stage.loads() == [("w0", "a")]
    stage.arrive(A)
    assert stage.loads() == [("w0", "a"), ("w1", "a")]


def test_of_two_models_the_one_asked_for_less_goes_where_only_places_are_missing() -> None:
    """Its size does not matter then."""
    sizes = {A: 2, B: 6, C: 2}
    stage = Stage([replace(view(W0, loaded=2, memory=100), servable=sizes)])
    stage.feed(Observed(W0, {A: resident(2, size=2), B: resident(2, size=6)}))
    for variant in (A, B, B, A, B):
        stage.use(variant)
        stage.now += 1
    stage.now = 50
    stage.arrive(C)
    stage.later(10)
    assert stage.unloads() == [("w0", "a")]


# What goes for it ------------------------------------------------------------------------------


def test_a_large_model_goes_before_small_ones_of_the_same_worth() -> None:
    """What counts is the worth of each byte, although the small one was used longer ago."""
    sizes = {A: 2, B: 6, C: 2}
    stage = Stage([replace(view(W0, loaded=3, memory=8), servable=sizes)])
    stage.feed(Observed(W0, {A: resident(2, size=2), B: resident(2, size=6)}))
    stage.use(A)
    stage.now = 1
    stage.use(B)
    stage.now = 50
    stage.arrive(C)
    assert stage.unloads() == [("w0", "b")]


def test_what_need_not_go_stays() -> None:
    """A cheap victim that turns out to be needless is taken back."""
    sizes = {A: 1, B: 6, C: 6}
    stage = Stage([replace(view(W0, loaded=3, memory=8), servable=sizes)])
    stage.feed(Observed(W0, {A: resident(2, size=1), B: resident(2, size=6)}))
    for _ in range(5):
        stage.use(B)
    stage.now = 50
    stage.arrive(C)
    assert stage.unloads() == [("w0", "b")]


def test_a_spare_replica_goes_before_the_only_one_of_another_model() -> None:
    """Although its model is asked for more often."""
    stage = Stage([view(W0), view(W1), view(W2)])
    held(stage, (W0, A), (W1, A), (W2, B))
    for _ in range(2):
        stage.use(A)
    stage.use(B)
    stage.now = 50
    stage.arrive(C)
    ((_, gone),) = stage.unloads()
    assert gone == "a"


def test_an_idle_model_stays_for_its_tenure() -> None:
    """Half of its load time by default; then it goes without any further event."""
    stage = Stage([view(W0)], policy=SchedulingConfig(min_tenure=3.0))
    held(stage, (W0, A))
    stage.now = 0.5
    waiting = stage.arrive(B)
    stage.later(2.4)
    assert stage.where(waiting) is None
    stage.later(0.2)
    assert stage.where(waiting) == "w0"


def test_a_pinned_model_is_no_victim_and_one_replica_too_many_is() -> None:
    """Of two replicas of a model that is held once, one may go."""
    stage = Stage([view(W0), view(W1)], bounds={A: ReplicaBounds(least=1)})
    held(stage, (W1, A))
    stage.now = 50
    stage.arrive(B)
    assert len(stage.unloads()) == 1
    stage.arrive(C)
    stage.later(100)
    assert len(stage.unloads()) == 1
