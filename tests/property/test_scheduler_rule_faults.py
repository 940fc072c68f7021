"""Faults that random histories can hardly show, each noticed by the test of the rule that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

from tests.support.scheduler_stage import Stage
from tests.support.scheduling_source import Fault, scheduling_with
from tests.unit import test_scheduling_barred as barred
from tests.unit import test_scheduling_places as places
from tests.unit import test_scheduling_rules as rules


class Planted(NamedTuple):
    """A fault, and the test that notices it."""

    test: Callable[[], None]
    module: str
    found: str
    replacement: str


FAULTS: Final = {
    "a busy model is never drained": Planted(
        rules.test_busy_model_is_drained_only_for_one_that_waited_too_long,
        "demand",
        "overdue = waited_s >= policy.drain_after",
        "overdue = False",
    ),
    "nobody looks again when a model is overdue": Planted(
        rules.test_busy_model_is_drained_only_for_one_that_waited_too_long,
        "loading",
        "elif not demand.overdue:",
        "elif False:",
    ),
    "nobody looks again when a guess has ended": Planted(
        places.test_a_further_replica_is_not_loaded_on_a_guess,
        "loading",
        "if not model.service_known:",
        "if False:",
    ),
    "replicas are loaded on a guess": Planted(
        places.test_a_further_replica_is_not_loaded_on_a_guess,
        "demand",
        "expected_s if model.service_known else",
        "expected_s if True else",
    ),
    "sizes count where only places are missing": Planted(
        places.test_of_two_models_the_one_asked_for_less_goes_where_only_places_are_missing,
        "eviction",
        "per_byte = free < 0",
        "per_byte = True",
    ),
    "what a load took is not learned for the next": Planted(
        places.test_a_load_that_was_quicker_than_expected_is_expected_to_be_so,
        "events",
        "    state.relearn(model)\n    replica.settle()\n",
        "    replica.settle()\n",
    ),
    "nobody looks again when an eviction is worth it": Planted(
        rules.test_a_lone_model_is_loaded_as_soon_as_an_eviction_is_worth_it,
        "placement",
        "again_at = min(again_at, _worth_it_at(demand, price_s, now))",
        "pass",
    ),
    "a fault that shows during a drain is forgotten": Planted(
        rules.test_a_replica_that_was_seen_faulty_goes_although_its_drain_is_called_off,
        "state",
        "if victim.phase is RESIDENT and not victim.fault:",
        "if victim.phase is RESIDENT:",
    ),
    "a plan outlives what is seen": Planted(
        rules.test_a_plan_is_dropped_when_somebody_else_was_quicker,
        "events",
        "    _drop_outdated_plan(state, worker, event)\n",
        "",
    ),
    "a plan outlives the wish for it": Planted(
        rules.test_a_plan_that_was_only_a_wish_is_dropped_with_the_wish,
        "fleet_events",
        "# it may go now\n        state.touch(model)\n",
        "\n",
    ),
    "the last replica of a pinned model is drained": Planted(
        rules.test_a_replica_that_drains_stays_when_it_has_become_the_last_of_a_pinned_model,
        "fleet_events",
        "makes_room = plan is not None and",
        "makes_room = False and",
    ),
    "a plan goes on where the model is gone": Planted(
        rules.test_a_plan_is_dropped_where_the_model_may_not_be_any_more,
        "fleet_events",
        "                state.drop(replica)\n",
        "                pass\n",
    ),
    "a retry loses its place": Planted(
        rules.test_requests_that_come_back_are_served_by_their_age,
        "granting",
        "key=lambda request: request.arrived_at",
        "key=lambda request: -request.arrived_at",
    ),
    "a retry that failed everywhere waits for ever": Planted(
        rules.test_a_request_that_failed_wherever_the_model_can_be_goes_back,
        "settling",
        "        if model.queue.returned:\n",
        "        if False:\n",
    ),
    "serves what the worker may not": Planted(
        rules.test_a_dedicated_worker_serves_nothing_else_whoever_loaded_it_there,
        "residency",
        "return view.ready and self.model.variant in view.servable",
        "return view.ready",
    ),
    "backoff does not double": Planted(
        rules.test_the_wait_after_a_refused_load_doubles,
        "events",
        "doublings = min(max(0, times - 1), _MOST_DOUBLINGS)",
        "doublings = 0",
    ),
    "a drain is not called off": Planted(
        rules.test_drain_is_called_off_when_nobody_waits_for_it_any_more,
        "state",
        "            victim.draining = False\n",
        "",
    ),
    "one request that failed is not worth a load": Planted(
        rules.test_a_request_that_failed_wherever_the_model_is_gets_it_loaded_elsewhere,
        "demand",
        "there = 0 if helpless else slots + coming",
        "there = slots + coming",
    ),
    "a flood takes the last slot": Planted(
        rules.test_while_only_a_flood_waits_the_last_slot_is_left_to_the_others,
        "granting",
        "    if not kept:",
        "    if True:",
    ),
    "answers on a worker that went keep slots": Planted(
        rules.test_answers_on_a_worker_that_is_down_keep_no_slot_of_another_from_their_tenant,
        "granting",
        "    if not kept:\n        return True\n    return sum(",
        "    return model.slots - model.sharing.busy > kept and sum(",
    ),
    "nothing waits for a batch": Planted(
        rules.test_a_model_that_is_idle_on_a_busy_worker_waits_for_a_fuller_batch,
        "granting",
        "    return until\n",
        "    return now\n",
    ),
    "a full batch waits too": Planted(
        rules.test_a_full_batch_begins_at_once,
        "granting",
        " or len(model.queue.waiting) > replica.slots:",
        ":",
    ),
    "a plan of no use to who waits stays": Planted(
        barred.test_a_plan_is_dropped_when_nobody_is_left_whom_it_would_serve,
        "settling",
        "r.phase is PLANNED and not queue.is_wanted_on(i)]",
        "r.phase is PLANNED and not queue.waiting]",
    ),
    "a free slot elsewhere lets in who cannot use it": Planted(
        barred.test_it_counts_where_the_queue_is_full,
        "events",
        "(not event.barred or can_serve(model, event.barred))",
        "True",
    ),
    "waits on when nobody is left": Planted(
        barred.test_it_is_refused_where_no_worker_is_left,
        "fleet_events",
        "if model.servers.keys() <= barred:",
        "if False:",
    ),
    "dedicated workers are no better than others": Planted(
        rules.test_model_is_loaded_on_the_worker_that_is_dedicated_to_it,
        "placement",
        "not view.dedicated",
        "True",
    ),
    "the busiest replica is taken": Planted(
        places.test_of_two_replicas_the_one_without_other_active_models_is_taken,
        "dispatch",
        "options.sort(key=_soonest)",
        "options.sort(key=_soonest, reverse=True)",
    ),
    "prompts that are read do not count": Planted(
        places.test_of_two_replicas_the_one_that_reads_no_long_prompt_is_taken,
        "dispatch",
        "sum(worker.reading.values()) if worker.reading else 0.0",
        "0.0",
    ),
    "a conversation is forgotten": Planted(
        places.test_a_conversation_returns_to_where_its_prefix_is_cached,
        "events",
        "    state.sessions.answered(",
        "    len(",
    ),
    "conversations pile up": Planted(
        places.test_conversations_do_not_pile_up_on_one_worker,
        "dispatch",
        "return len(replica.busy) + 1 <=",
        "return len(replica.busy) >= 0 or 1 <=",
    ),
    "worth does not count by size": Planted(
        places.test_a_large_model_goes_before_small_ones_of_the_same_worth,
        "eviction",
        "c.worth_s / c.size_bytes",
        "c.worth_s",
    ),
    "needless victims are not taken back": Planted(
        places.test_what_need_not_go_stays,
        "eviction",
        "_spare(chosen, rivals, free, places)",
        "pass",
    ),
    "a spare replica is worth as much as an only one": Planted(
        places.test_a_spare_replica_goes_before_the_only_one_of_another_model,
        "eviction",
        "worth *= policy.spare_replica",
        "worth *= 9",
    ),
    "further replicas cost nothing": Planted(
        places.test_a_further_replica_is_not_worth_what_it_would_evict,
        "placement",
        "demand.expected_wait_s * policy.replica_cost",
        "demand.expected_wait_s * 1e9",
    ),
    "further replicas need not repay": Planted(
        places.test_a_further_replica_is_not_loaded_for_a_short_wait,
        "demand",
        "if expected_wait_s <= least_repay(policy) * load_s:",
        "if False:",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_rule_fault_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule's own test fails with it, and passes without."""
    test, *fault = FAULTS[name]
    test()
    with scheduling_with(Fault(*fault)) as module:
        monkeypatch.setattr(Stage, "module", module)
        with pytest.raises((AssertionError, TypeError, ValueError)):
            test()
