from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.queues import ModelQueue, Weighing
from gateway.scheduling.reasons import Turn
from gateway.scheduling.sharing import MOST_REMEMBERED, RECENT_S, Sharing
from gateway.scheduling.tenants import MEMORY_S, Tenants
from gateway.scheduling.types import Arrived

A = Variant("a")
FAILED = frozenset({Instance("w0", 1)})


def request(name: str, arrived_at: float, tenant: str = "ann", *, back: bool = False) -> Arrived:
    """A request, or one that comes back."""
    return Arrived(
        request=RequestId(name),
        variant=A,
        arrived_at=arrived_at,
        deadline=900,
        tenant=tenant,
        avoid=FAILED if back else frozenset(),
    )


def queue_of(*requests: Arrived) -> ModelQueue:
    """A queue in which these wait."""
    queue = ModelQueue(Weighing(late_weight=0.25, tenant_most=2.0))
    for each in requests:
        queue.push(each)
    return queue


def turn(
    queue: ModelQueue,
    *,
    late_before: float = 0.0,
    plain: bool = False,
    over: dict[str, float] | None = None,
    kept_from: frozenset[str] = frozenset(),
) -> tuple[str, Turn] | None:
    """Whose turn it is."""
    chosen = queue.next(
        late_before,
        plain=plain,
        excess=lambda tenant: (over or {}).get(tenant, 0.0),
        may_take=lambda tenant, _: tenant not in kept_from,
        can_serve=lambda barred: not barred,
    )
    return None if chosen is None else (chosen[0].request, chosen[1])


def test_who_can_still_be_saved_goes_before_who_is_late() -> None:
    """Among those that can be saved, the oldest."""
    queue = queue_of(request("late", 1), request("old", 5), request("young", 6))
    assert turn(queue, late_before=4) == ("old", Turn.SAVABLE)
    assert queue.oldest(4, plain=False)[0].request == "old"


def test_when_nobody_can_be_saved_the_oldest_goes() -> None:
    """First come, first served among the late too."""
    queue = queue_of(request("second", 2), request("first", 1))
    assert turn(queue, late_before=9) == ("first", Turn.FIFO)
    assert queue.oldest(9, plain=False) == (request("first", 1), Turn.FIFO)


def test_in_a_plain_turn_the_oldest_goes_late_or_not() -> None:
    """And whether or not its tenant is over its share."""
    queue = queue_of(request("late", 1), request("savable", 5, "bob"))
    assert turn(queue, late_before=4, plain=True, over={"ann": 9}) == ("late", Turn.FIFO)
    assert queue.oldest(4, plain=True)[0].request == "late"


def test_tenants_over_their_share_come_after_the_others_the_largest_last() -> None:
    """Equals are served in the order of arrival."""
    queue = queue_of(request("ann", 1), request("bob", 2, "bob"), request("cas", 3, "cas"))
    assert turn(queue) == ("ann", Turn.SAVABLE)
    assert turn(queue, over={"ann": 5, "bob": 3}) == ("cas", Turn.SAVABLE)
    assert turn(queue, over={"ann": 5, "bob": 3, "cas": 9}) == ("bob", Turn.SAVABLE)


def test_a_tenant_that_may_not_take_a_slot_is_passed_over() -> None:
    """If nobody else waits it is nobody's turn."""
    queue = queue_of(request("flood", 1), request("other", 2, "bob"))
    assert turn(queue, kept_from=frozenset({"ann"})) == ("other", Turn.SAVABLE)
    assert turn(queue, kept_from=frozenset({"ann", "bob"})) is None


def test_a_request_that_comes_back_stands_outside_the_lines() -> None:
    """Until it avoids nobody any more; then it has the place that it had."""
    back, other = request("back", 1, back=True), request("other", 2)
    queue = queue_of(other, back)
    assert (queue.in_line, len(queue), queue.oldest_arrival) == (1, 2, 1)
    assert turn(queue) == ("other", Turn.SAVABLE)
    queue.avoid_no_more(back)
    assert turn(queue) == ("back", Turn.SAVABLE)
    assert queue.in_line == 2


def test_a_request_that_avoids_nobody_any_more_weighs_what_it_did() -> None:
    """However often hope is given up before and after."""
    back = request("back", 5, back=True)
    queue = queue_of(back, request("other", 6))
    queue.avoid_no_more(back)
    assert queue.need == 2
    queue.give_up_hope(9)
    assert queue.need == 0.5
    queue.remove(back.request)
    assert queue.need == 0.25


def test_who_stands_in_line_again_keeps_its_place_among_the_late() -> None:
    """Although the younger late ones were seen to be late before it."""
    back = request("back", 1, back=True)
    queue = queue_of(back, request("younger", 2))
    assert turn(queue, late_before=9) == ("younger", Turn.FIFO)
    queue.avoid_no_more(back)
    assert turn(queue, late_before=9) == ("back", Turn.FIFO)


def test_an_early_arrival_that_comes_late_is_put_in_its_place() -> None:
    """A retry without a grudge is not behind those that came after its first attempt."""
    queue = queue_of(request("a", 1), request("c", 3), request("b", 2))
    order = []
    while queue:
        chosen = queue.oldest(0, plain=False)[0]
        order.append(chosen.request)
        queue.remove(chosen.request)
    assert order == ["a", "b", "c"]


def test_late_requests_weigh_less_and_a_bounded_tenant_no_more_than_its_bound() -> None:
    """What counts where loads are decided."""
    queue = queue_of(*(request(f"r{n}", n) for n in range(4)), request("other", 9, "bob"))
    assert queue.need == 5
    queue.give_up_hope(2)
    assert queue.need == 0.25 + 0.25 + 1 + 1 + 1
    assert queue.weight(["ann"]) == 2.0 + 1
    queue.reweigh(Weighing(late_weight=0.5, tenant_most=1.0))
    assert queue.need == 0.5 + 0.5 + 1 + 1 + 1
    assert queue.weight(["ann"]) == 1.0 + 1


moves = st.lists(
    st.tuples(
        st.sampled_from(["push", "back", "remove", "serve", "hope"]), st.integers(0, 9), st.sampled_from("ab")
    ),
    max_size=40,
)


@given(moves)
def test_a_queue_agrees_with_a_plain_list(history: list[tuple[str, int, str]]) -> None:
    """Whatever comes and goes: same length, same oldest, same turn, same weight."""
    queue, plain, hope, late_before = queue_of(), list[Arrived](), -1.0, 0.0
    for number, (move, at, tenant) in enumerate(history):
        line = sorted((one for one in plain if not one.avoid), key=lambda one: one.arrived_at)
        if move in ("push", "back"):
            plain.append(request(f"r{number}", at + number / 100, tenant, back=move == "back"))
            queue.push(plain[-1])
        elif move == "hope":
            hope = max(hope, at)
            queue.give_up_hope(at)
        elif move == "remove" and plain:
            queue.remove(plain.pop(at % len(plain)).request)
        elif move == "serve" and line:
            late_before = max(late_before, at)
            first = next((one for one in line if one.arrived_at >= late_before), line[0])
            chosen = turn(queue, late_before=late_before)
            assert chosen is not None
            assert chosen[0] == first.request
        assert len(queue) == len(plain)
        assert queue.oldest_arrival == min((one.arrived_at for one in plain), default=inf)
        assert queue.need == pytest.approx(sum(1.0 if one.arrived_at >= hope else 0.25 for one in plain))


# Tenants ------------------------------------------------------------------------------


def test_a_tenant_alone_is_never_over_its_share() -> None:
    """There is nobody to share with."""
    tenants = Tenants(fair_share=2.0)
    tenants.asks("ann", 0)
    tenants.charge("ann", 1e6, 0)
    assert tenants.excess("ann", 0) == 0


def test_who_was_given_more_than_its_share_is_over_it() -> None:
    """More than `fair_share` times the mean of the others; then all that it was given counts."""
    tenants = Tenants(fair_share=2.0)
    for name, given_tokens in (("ann", 500.0), ("bob", 100.0), ("cas", 300.0)):
        tenants.asks(name, 0)
        tenants.charge(name, given_tokens, 0)
    tenants.charge("ann", 0.0, 0)
    assert tenants.excess("ann", 0) == pytest.approx(500)
    assert tenants.excess("cas", 0) == 0


def test_what_waits_counts_as_if_it_were_given() -> None:
    """So that a flood is seen when it comes; what leaves or is granted counts no more as waiting."""
    tenants = Tenants(fair_share=2.0)
    tenants.asks("bob", 0)
    tenants.charge("bob", 100, 0)
    tenants.asks("ann", 0)
    for _ in range(3):
        tenants.waits("ann", 100, 0)
    assert tenants.excess("ann", 0) == pytest.approx(300)
    for _ in range(3):
        tenants.waits_no_more("ann", 100)
    assert tenants.excess("ann", 0) == 0


def test_what_was_given_is_forgotten_with_time_but_not_the_proportions() -> None:
    """After one time constant a third is left."""
    tenants = Tenants(fair_share=2.0)
    for name, given_tokens in (("ann", 900.0), ("bob", 100.0)):
        tenants.asks(name, 0)
        tenants.charge(name, given_tokens, 0)
    tenants.charge("ann", 0.0, 0)
    tenants.charge("ann", 0.0, MEMORY_S - 1)
    later = tenants.excess("ann", MEMORY_S - 1)
    assert later == pytest.approx(900 * 0.3691, rel=1e-3)


def test_nobody_is_charged_below_nothing() -> None:
    """A correction cannot make a credit to flood with."""
    tenants = Tenants(fair_share=1.0)
    for name in ("ann", "bob"):
        tenants.asks(name, 0)
    tenants.charge("ann", -500, 0)
    tenants.charge("ann", 100, 0)
    assert tenants.excess("ann", 0) == pytest.approx(100)


# Sharing a model's slots ----------------------------------------------------------------


def test_a_tenant_alone_on_a_model_may_have_all_slots() -> None:
    """Nothing is kept for nobody."""
    sharing = Sharing()
    sharing.asked("ann", 0)
    assert sharing.kept_from("ann", 4, 5.0, 0) == 0


def test_a_slot_is_kept_for_others_who_asked_lately() -> None:
    """At least one, never all; none once they have asked for nothing for a while."""
    sharing = Sharing()
    sharing.asked("bob", 0)
    sharing.asked("ann", 1)
    assert sharing.kept_from("ann", 4, 1.0, 1) == 1
    assert sharing.kept_from("ann", 4, 1e6, 1) == 3
    assert sharing.kept_from("ann", 4, 1.0, RECENT_S + 1) == 0


def test_as_many_slots_are_kept_as_the_others_rate_needs_less_what_they_hold() -> None:
    """Little's law and its square root."""
    sharing = Sharing()
    for _ in range(12):
        sharing.asked("bob", 0)
    sharing.asked("ann", 0)
    kept = sharing.kept_from("ann", 32, 40.0, 0)
    assert kept == 6  # a rate of .1 for 40 s, and 2 for chance
    sharing.took("bob", 0)
    sharing.took("ann", 0)
    assert sharing.kept_from("ann", 32, 40.0, 0) == kept - 1


def test_a_tenant_that_was_forgotten_while_it_waited_is_no_surprise() -> None:
    """Many others may have come in the meantime."""
    sharing = Sharing()
    sharing.asked("ann", 0)
    for number in range(2 * MOST_REMEMBERED):
        sharing.asked(f"other{number}", 10 * RECENT_S)
    assert sharing.kept_from("ann", 4, 1.0, 10 * RECENT_S) >= 1


def test_the_order_of_many_is_the_order_of_arrival() -> None:
    """However they were pushed."""
    queue = queue_of(*(request(f"r{n}", (n * 7) % 50) for n in range(50)))
    times = [one.arrived_at for one in queue.all()]
    assert all(a <= b for a, b in pairwise(times))
