"""Models that take more memory than was planned: at their load, and while they answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.scheduling.types import Left, Load, Loaded, LoadFailed, RanOutOfMemory, Reject, Unload
from gateway.workers.faults import is_out_of_memory
from supervisor.contract.config import SchedulingConfig
from tests.support.scheduler_stage import SIZES, W0, W1, A, B, Stage, resident, view

WORDS = "cudaMalloc failed: out of memory"


def planned(stage: Stage) -> list[int]:
    """Return the room that is taken on each worker."""
    return [worker.used_bytes for worker in stage.scheduler.workers]


def test_a_load_for_which_memory_ran_out_is_planned_larger_elsewhere() -> None:
    """15 % more than what did not suffice."""
    stage = Stage([replace(view(instance), servable={A: 40}) for instance in (W0, W1)], obeys=False)
    stage.arrive(A)
    stage.feed(LoadFailed(W0, A, WORDS, lasting=True, out_of_memory=True))
    assert stage.loads() == [("w0", "a"), ("w1", "a")]
    assert planned(stage) == [0, 46]


def test_what_no_worker_could_have_is_never_planned() -> None:
    """Or the model would wait for ever for room that nobody has."""
    stage = Stage([view(W0, memory=5), view(W1, memory=4)], obeys=False)
    stage.arrive(A)
    for instance in (W0, W1):
        stage.feed(LoadFailed(instance, A, WORDS, lasting=True, out_of_memory=True))
    assert stage.scheduler.estimates.of(A).least_bytes <= 5


def test_a_model_that_ran_out_of_memory_leaves_and_is_loaded_elsewhere() -> None:
    """Who holds a slot ends first; who comes meanwhile goes to the other worker."""
    stage = Stage([view(W0), view(W1)])
    first = stage.arrive(A)
    stage.feed(RanOutOfMemory(W0, A, WORDS))
    second = stage.arrive(A)
    assert (stage.where(first), stage.where(second)) == ("w0", "w1")
    stage.finish(first)
    assert stage.unloads() == [("w0", "a")]
    stage.finish(second)
    stage.use(A)
    assert stage.loads() == [("w0", "a"), ("w1", "a")]


def test_where_there_is_nowhere_else_it_is_loaded_anew_after_a_moment() -> None:
    """Nobody is refused for it: a new process may do."""
    stage = Stage([view(W0)])
    stage.use(A)
    stage.feed(RanOutOfMemory(W0, A, WORDS))
    waiting = stage.arrive(A)
    assert stage.refusal(waiting) is None
    stage.later(2.0)
    assert stage.where(waiting) == "w0"
    assert stage.loads() == [("w0", "a"), ("w0", "a")]


def test_many_answers_that_fail_at_once_count_as_one() -> None:
    """All slots of a runner end with it."""
    stage = Stage([view(W0), view(W1)])
    stage.arrive(A)
    stage.feed(RanOutOfMemory(W0, A, WORDS))
    least = stage.scheduler.estimates.of(A).least_bytes
    assert stage.feed(RanOutOfMemory(W0, A, WORDS)) == []
    assert stage.scheduler.estimates.of(A).least_bytes == least


def test_what_was_outgrown_counts_beside_others() -> None:
    """Its next load leaves no room for a model that would have fitted by what it says of itself."""
    stage = Stage([view(W0, loaded=2, memory=44)], obeys=False)
    stage.scheduler.estimates.of(A).outgrew(40, 44)
    stage.arrive(A)
    stage.feed(Loaded(W0, A, resident(2, size=40)))
    assert planned(stage) == [44]
    stage.arrive(B)
    assert [e.variant for e in stage.seen if isinstance(e, Load)] == [A]
    assert SIZES[B] == 4
    assert not any(isinstance(effect, Reject) for effect in stage.seen)


def test_an_event_of_a_worker_that_is_gone_means_nothing() -> None:
    """It may come late."""
    stage = Stage([view(W0)])
    assert stage.feed(RanOutOfMemory(W1, A, WORDS)) == []
    assert stage.feed(RanOutOfMemory(W0, A, WORDS)) == []


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory",
        "llama runner process has terminated: cudaMalloc failed: out of memory",
        "model requires more system memory (9.1 GiB) than is available (3.0 GiB)",
        "ggml_vulkan: Device memory allocation failed: ErrorOutOfDeviceMemory",
        "unable to allocate CUDA0 buffer",
        "llama_kv_cache_init: failed to allocate buffer for kv cache",
        "failed to allocate memory for model",
    ],
)
def test_engines_say_in_many_ways_that_memory_ran_out(words: str) -> None:
    """At a load and at an answer."""
    assert is_out_of_memory(words)


@pytest.mark.parametrize(
    "words", ["", "llama runner process has terminated: exit status 2", "invalid format"]
)
def test_other_failures_are_no_lack_of_memory(words: str) -> None:
    """They say nothing of the model's size."""
    assert not is_out_of_memory(words)


def test_why_it_leaves_is_told_in_the_engines_words() -> None:
    """Whoever reads the log would look for what it made room for."""
    stage = Stage([view(W0), view(W1)])
    held = stage.arrive(A)
    stage.feed(RanOutOfMemory(W0, A, WORDS))
    stage.finish(held)
    assert [effect.why for effect in stage.seen if isinstance(effect, Unload)] == [WORDS]


def test_a_model_that_makes_room_leaves_also_when_the_room_is_not_needed_any_more() -> None:
    """What ran out of memory must go, whoever else is gone meanwhile."""
    stage = Stage([view(W0, slots=1)])
    held = stage.arrive(A)
    other = stage.arrive(B)
    stage.later(SchedulingConfig().drain_after + 1)
    stage.feed(RanOutOfMemory(W0, A, WORDS))
    stage.feed(Left(other))
    again = stage.arrive(A)
    stage.finish(held)
    assert stage.unloads() == [("w0", "a")]
    assert stage.where(again) is None
