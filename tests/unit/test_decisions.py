from __future__ import annotations

import gc
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.commands.explanation import WIDTH, explanation
from gateway.decisions.log import explain_from_log
from gateway.decisions.memory import MOST_LOADS, MOST_REQUESTS, Attempt, Decisions, UnknownRequestError
from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.reasons import GrantReason, LoadCause, LoadOption, LoadReason, ReplicaOption, Turn
from gateway.scheduling.types import Grant, Load, RejectReason, Unload

GPU0, GPU1 = Instance("gpu0", 1), Instance("gpu1", 4)
LLAMA, QWEN = Variant("llama"), Variant("qwen")


@dataclass(slots=True, weakref_slot=True)
class Request:
    id: str
    variant: Variant | None = LLAMA
    attempts: list[Attempt] = field(default_factory=list)

    def line(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "model": "llama",
            "started_unix": 0.0,
            "total_s": 1.0,
            "attempts": [attempt.facts() for attempt in self.attempts],
        }


def decisions() -> Decisions:
    """Return an empty memory in which a model's digest is its name."""
    return Decisions(lambda variant: variant.digest)


def a_load(*, at: float = 10.0, victims: tuple[Variant, ...] = (QWEN,), **changes: Any) -> Load:
    """Return a load on gpu1 for which gpu0 was considered too."""
    facts: dict[str, Any] = {
        "cause": LoadCause.FIRST,
        "queued": 3,
        "need": 2.3,
        "waited_s": 1.5,
        "expected_wait_s": None,
        "options": (
            LoadOption(GPU1, 6.8, 0.0, 0.31, 0.0, 0.0, victims),
            LoadOption(GPU0, 6.8, 2.0, 0.9, 0.5, 0.0, (Variant("x" * 90), Variant("y"))),
        ),
    }
    return Load(GPU1, LLAMA, LoadReason(at=at, **{**facts, **changes}))


def a_grant(turn: Turn = Turn.ALONE) -> Grant:
    """Return a slot on gpu1."""
    options = (
        ReplicaOption(GPU1, 0.25, 0.5, 0.0, 4.0, 1, 4, cached=True),
        ReplicaOption(GPU0, 1.0, 0.5, 0.5, 4.0, 2, 4),
    )
    return Grant(RequestId("r.1"), GPU1, LLAMA, 7.0, GrantReason(turn, options, 2))


def ended(memory: Decisions, request: Request, **more: Any) -> dict[str, Any]:
    """End the request and return its document."""
    memory.ended(request, request.line() | more)
    return memory.explain(request.id)


def test_a_load_begun_for_others_is_explained_to_whoever_waited_for_it_too() -> None:
    """What counts is that it was not there yet, not for whom it was decided."""
    memory, request = decisions(), Request("r")
    memory.unloading(Unload(GPU1, QWEN, "makes room"), 10.0)
    trace = memory.loading(a_load(at=10.0), 10.5)
    request.attempts.append(Attempt(arrived_at=12.0, asked_s=0.0))
    trace.ended(17.0)
    request.attempts[0].granted(a_grant(), 5.0, memory)
    (attempt,) = ended(memory, request)["attempts"]
    assert (attempt["load_after_s"], attempt["waited_s"]) == (-2.0, 5.0)
    load = attempt["load"]
    assert (load["unloaded"], load["room_s"], load["seconds"]) == (["qwen"], 0.5, 6.5)
    assert [option["total_s"] for option in load["options"]] == [7.11, 10.2]


def test_a_load_that_was_done_before_is_no_part_of_the_story() -> None:
    """The request found the model there."""
    memory, request = decisions(), Request("r", attempts=[Attempt(arrived_at=20.0, asked_s=0.0)])
    memory.loading(a_load(), 10.0).ended(17.0)
    request.attempts[0].granted(a_grant(), 0.0, memory)
    assert ended(memory, request)["attempts"][0]["load"] is None


def test_a_victim_of_an_earlier_day_was_not_unloaded_for_this_load() -> None:
    """It may have left by itself."""
    memory = decisions()
    memory.unloading(Unload(GPU1, QWEN, "keep-alive passed"), 5.0)
    assert memory.loading(a_load(at=10.0), 10.0).unloaded == []


def test_memory_is_bounded_by_the_requests_that_ended() -> None:
    """Those under way are told of however many there are, and forgotten with whoever handles them."""
    memory = decisions()
    under_way = [Request(f"open-{n}") for n in range(MOST_REQUESTS + 5)]
    for request in under_way:
        memory.began(request)
    for n in range(MOST_REQUESTS + 1):
        memory.ended(Request(f"done-{n}"), {"id": f"done-{n}", "model": "m" * 10_000, "ignored_options": {}})
    assert memory.explain("open-0")["state"] == "running"
    assert len(memory.explain("done-1")["model"]) == 1000
    assert "ignored_options" not in memory.explain("done-1")
    with pytest.raises(UnknownRequestError, match="no request 'done-0' is known"):
        memory.explain("done-0")
    del under_way, request
    gc.collect()
    with pytest.raises(UnknownRequestError):
        memory.explain("open-0")


def test_loads_are_forgotten_too_but_not_by_the_requests_that_waited_for_them() -> None:
    """What a request keeps, it keeps."""
    memory, request = decisions(), Request("r", attempts=[Attempt(arrived_at=12.0, asked_s=0.0)])
    memory.loading(a_load(), 12.0).ended(13.0)
    request.attempts[0].granted(a_grant(), 1.0, memory)
    for n in range(MOST_LOADS + 1):
        memory.loading(Load(GPU1, Variant(str(n)), a_load().reason), 14.0)
        memory.unloading(Unload(GPU1, Variant(str(n)), ""), 15.0)
    assert len(memory._loads) == len(memory._unloads) == MOST_LOADS
    assert ended(memory, request)["attempts"][0]["load"]["load"] == 1


def test_the_same_id_twice_means_the_later_request() -> None:
    """And a whole id is never ambiguous."""
    memory = decisions()
    for status, name in enumerate(("job", "job-2", "job")):
        ended(memory, Request(name), status=status)
    assert memory.explain("job")["status"] == 2
    with pytest.raises(UnknownRequestError, match="2 requests begin with 'jo': job, job-2"):
        memory.explain("jo")


@pytest.mark.parametrize("turn", Turn)
@pytest.mark.parametrize("cause", LoadCause)
@pytest.mark.parametrize("error", [None, "out of memory " * 20])
def test_every_reason_has_words_that_fit_a_terminal(turn: Turn, cause: LoadCause, error: str | None) -> None:
    """However long the names are."""
    memory, request = decisions(), Request("r", attempts=[Attempt(arrived_at=12.0, asked_s=0.0, error=error)])
    memory.loading(a_load(cause=cause, queued=0 if cause is LoadCause.KEPT else 3), 12.0).ended(13.0, error)
    request.attempts[0].granted(a_grant(turn), 1.0, memory)
    document = ended(memory, request, model="m" * 200, status=200, outcome="done", tokens=3)
    lines = list(explanation(document))
    assert max(map(len, lines)) <= WIDTH
    assert not any("None" in line or turn.name.lower() == line for line in lines)


def test_a_wait_for_a_fuller_batch_is_told_beside_the_wait_for_a_load() -> None:
    """Else nobody would understand what a request waited for once its model was there."""
    memory, request = decisions(), Request("r", attempts=[Attempt(arrived_at=12.0, asked_s=0.0)])
    grant = a_grant()
    request.attempts[0].granted(grant._replace(reason=grant.reason._replace(held_s=4.25)), 5.0, memory)
    words = " ".join(" ".join(explanation(ended(memory, request))).split())
    assert "4.25 s of it beside a free slot, held back for a fuller batch" in words


@pytest.mark.parametrize("reason", RejectReason)
def test_every_rejection_has_words(reason: RejectReason) -> None:
    """Beside the sentence with the numbers."""
    facts = {"rejected": str(reason), "status": 503, "error": "the numbers", "outcome": "refused"}
    words = " ".join(explanation(ended(decisions(), Request("r"), **facts)))
    assert "Refused with 503" in words
    assert "the numbers" in words
    assert str(reason) not in words


def test_a_log_of_several_gateways_joins_each_request_with_its_own_loads() -> None:
    """Numbers of loads begin anew; what is no JSON line of ours is passed over."""
    lines = [
        '{"event": "load", "load": 1, "worker": "gpu0#1", "model": "a", "options": []}',
        '{"event": "loaded", "load": 1, "seconds": 5.0, "worker": "gpu0#1"}',
        '{"event": "request", "id": "r1", "attempts": [{"load": 1}]}',
        "Traceback (most recent call last):",
        "{half a line",
        'Mar 01 host corral: {"event": "load", "load": 1, "worker": "gpu1#1", "model": "b"}',
        '{"event": "load refused", "load": 1, "error": "no"}',
        '{"event": "request", "id": "r2", "attempts": [{"load": 1}, {"load": 9}]}',
    ]
    first, second = (explain_from_log(lines, name)["attempts"] for name in ("r1", "r2"))
    assert (first[0]["load"]["model"], first[0]["load"]["seconds"]) == ("a", 5.0)
    assert (second[0]["load"]["worker"], second[0]["load"]["error"]) == ("gpu1", "no")
    assert second[1]["load"] == {"load": 9}


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "request", "id": 5}',
        '{"event": "request", "id": "5", "attempts": 3}',
        '{"event": "request", "id": "5", "attempts": [3]}',
        '{"event": "request", "id": "5", "attempts": [{"options": 7}]}',
        '{"event": "request", "id": "5", "attempts": [{"options": [7]}]}',
    ],
)
def test_lines_of_other_programs_are_passed_over(line: str) -> None:
    """They have requests and ids as well."""
    with pytest.raises(UnknownRequestError):
        explain_from_log([line], "5")


def test_a_log_line_of_another_version_is_explained_as_far_as_it_goes() -> None:
    """Keys that are missing are not told."""
    line = '{"event": "request", "id": "old", "route": "/api/chat", "model": "m", "outcome": "done"}'
    assert list(explanation(explain_from_log([line], "old")))
    lone = '{"event": "request", "id": "r", "attempts": [{"worker": "gpu0", "load": 3}]}'
    assert any("no line about that load" in line for line in explanation(explain_from_log([lone], "r")))
