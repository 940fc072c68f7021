"""Faults for the scheduler, each of which breaks a promise, and the kind of history that shows it soonest."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from gateway.scheduling.types import ReplicaBounds
from tests.property.scheduler_machine import FOR_EVER, Scene
from tests.property.scheduler_world import LONG_A, A, B, C
from tests.support.scheduling_source import Fault

ANY: Final = Scene()
EVENTFUL: Final = Scene(eventful=True)
"""Memory runs out at answers, and the operator changes his mind."""
CALM: Final = Scene(upheavals=0, looks=False, failures=False, keep_alives_s=(None,), wishes_s=(None,))
CROWD: Final = Scene(
    workers=(1,),
    models=(A, A, A, B),
    bursts=(2, 4),
    max_queue=8,
    upheavals=0,
    looks=False,
    failures=False,
    keep_alives_s=(None,),
    wishes_s=(None,),
)
"""Many wait for few slots."""
SWAPS: Final = Scene(
    workers=(1, 2),
    models=(A, B, C),
    max_loaded=(1,),
    upheavals=0,
    looks=False,
    failures=False,
    keep_alives_s=(None,),
    wishes_s=(None,),
    ttls_s=(900.0,),
)
"""Everything needs what another has."""
PINS: Final = Scene(
    bounds=(ReplicaBounds(least=1), ReplicaBounds(most=1), ReplicaBounds(least=1, most=1)),
    models=(A, B, C),
    max_loaded=(1, 2),
    upheavals=0,
    failures=False,
)
FAILING: Final = Scene(models=(A, B), upheavals=0, looks=False, ttls_s=(900.0,), max_loaded=(2,))

TWO_FAIL: Final = replace(FAILING, workers=(2,), models=(A,))
ONE_FAILS: Final = replace(FAILING, workers=(1,), models=(A,))
BATCHES: Final = replace(CROWD, max_loaded=(2,), models=(A, A, B), bursts=(1, 2), ttls_s=(900.0,))
WEIGHTS: Final = replace(SWAPS, models=(A, LONG_A), max_loaded=(2, 3), one_per_weights=(True,))
KEEPS: Final = replace(
    CALM, workers=(1,), models=(A,), bursts=(1, 2), keep_alives_s=(6.0,), wishes_s=(None, FOR_EVER, 0.0, 5.0)
)
"""Tenants with other wishes use one model."""
TIGHT: Final = replace(SWAPS, workers=(1,), max_loaded=(3,), memory_bytes=6)
DEDICATED: Final = replace(SWAPS, workers=(3,), models=(A, B, B), keep_alives_s=(900.0,), looks=True)
SEEN: Final = replace(SWAPS, workers=(1,), max_loaded=(1, 2), looks=True)
RETRIES: Final = replace(CROWD, workers=(2,), models=(A, A, A, B))
MIXED: Final = replace(CROWD, workers=(2,), bursts=(1, 2), barred=(0, 1), tenants=("ann",))
"""Half of all who come can be served by one worker only."""
OUT_OF_MEMORY: Final = replace(
    SWAPS, eventful=True, bursts=(1, 2, 4), max_loaded=(1, 2), ttls_s=(7.0, 25.0, 900.0), barred=(0,)
)
OTHER_CONSTANTS: Final = replace(CROWD, eventful=True, barred=(0,))
HANDOVERS: Final = replace(ANY, workers=(1,), models=(A,), tenants=("ann",), looks=False, failures=False)


class Planted(NamedTuple):
    """A fault, and where it is looked for."""

    scene: Scene
    fault: Fault


def _planted(scene: Scene, module: str, found: str, replacement: str) -> Planted:
    return Planted(scene, Fault(module, found, replacement))


FAULTS: Final = {
    "another gateway's answers are not counted": _planted(
        HANDOVERS,
        "events",
        "    worker = state.workers.get(event.instance)\n    if worker is None or",
        "    worker = None\n    if worker is None or",
    ),
    "a slot is never freed": _planted(CALM, "events", "replica.busy.discard(request.request)", "pass"),
    "a grant takes no slot": _planted(CALM, "events", "replica.busy.add(request.request)", "pass"),
    "one slot too many": _planted(
        CALM,
        "residency",
        "if self.slots_counted > busy:",
        "if self.slots_counted and self.slots_counted >= busy:",
    ),
    "effective slots are not believed": _planted(
        ANY,
        "events",
        "replica.resident, replica.slots = resident, resident.slots",
        "replica.resident = resident",
    ),
    "a waiter that left stays in its queue": _planted(
        CALM, "events", "gone = model.queue.remove(request)", "gone = model.queue.waiting[request]"
    ),
    "a waiter that left still counts for its tenant": _planted(
        CALM, "events", "state.tenants.waits_no_more(tenant, worth)", "pass"
    ),
    "new capacity is not used": _planted(
        CALM, "settling", "        dispatch(state, model, now)\n    _drop", "    _drop"
    ),
    "grants on what drains": _planted(
        SWAPS,
        "residency",
        "if self.slots_counted > busy:",
        "if self.phase is RESIDENT and self.worker.view.ready and self.slots > busy:",
    ),
    "grants on what is loading": _planted(
        CALM,
        "residency",
        "if self.slots_counted > busy:",
        "if self.slots_counted + self.coming_counted > busy:",
    ),
    "grants and loads on what is not ready": _planted(
        ANY, "residency", "return view.ready and self.model.variant in", "return self.model.variant in"
    ),
    "two loads at once on a worker": _planted(
        CALM, "residency", "return self.view.ready and self.coming is None", "return self.view.ready"
    ),
    "loads twice for one need": _planted(
        CALM, "loading", "if len(queue.waiting) <= model.coming or model.full:", "if model.full:"
    ),
    "what is coming does not count": _planted(
        CALM, "residency", "model.coming += coming - self.coming_counted", "pass"
    ),
    "loads beside itself": _planted(
        ANY, "placement", "and worker.instance not in model.replicas", "and True"
    ),
    "loads where it may not be": _planted(
        ANY, "placement", "and model.variant in worker.view.servable", "and True"
    ),
    "the load does not wait for its victims": _planted(
        SWAPS, "loading", "if replica.victims.isdisjoint(worker.replicas)", "if True"
    ),
    "memory is not counted": _planted(
        CALM, "residency", "worker.used_bytes += room - self.room_counted", "pass"
    ),
    "max_loaded_models is not counted": _planted(
        CALM, "eviction", "places = view.max_loaded_models - len(worker.replicas)", "places = 9"
    ),
    "spares what has to go": _planted(
        TIGHT,
        "eviction",
        "_spare(chosen, rivals, free,",
        "_spare(chosen, rivals, 2**50,",
    ),
    "two variants of the same weights": _planted(
        WEIGHTS, "eviction", "if view.one_per_weights else", "if False else"
    ),
    "busy models are unloaded": _planted(SWAPS, "loading", "        if victim.idle:\n", "        if True:\n"),
    "busy models are drained at once": _planted(SWAPS, "eviction", "if not demand.overdue or not", "if not"),
    "no tenure": _planted(
        SWAPS, "eviction", "tenure = replica.since + policy.min_tenure * load_s", "tenure = now"
    ),
    "nobody looks again when tenure is over": _planted(
        SWAPS, "placement", "again_at = min(again_at, found.until)", "pass"
    ),
    "pinned models are evicted": _planted(
        PINS, "eviction", "replica.model.bounds.least > 0 and replica.kept", "False"
    ),
    "pinned models expire": _planted(
        PINS, "fleet_events", "replica.stays_until <= now and not replica.kept", "replica.stays_until <= now"
    ),
    "pinned models are not loaded": _planted(
        PINS, "loading", "        _keep(state, model, now)", "        pass"
    ),
    "max_replicas is ignored": _planted(
        PINS, "residency", "return self.bounds.most is not None and", "return False and"
    ),
    "younger ones first": _planted(
        CROWD,
        "queues",
        "min(heads, key=lambda head: (0.0 if plain else excess(head[0]), head[1]))",
        "max(heads, key=lambda head: head[1])",
    ),
    "a flood is served first": _planted(
        CROWD,
        "queues",
        "(0.0 if plain else excess(head[0]), head[1])",
        "(0.0 if plain else -excess(head[0]), head[1])",
    ),
    "late ones before those that can be saved": _planted(
        CROWD, "queues", "if entry[0] >= late_before:", "if entry[0] < late_before:"
    ),
    "those that nobody hurries for before those that can be saved": _planted(
        CROWD, "queues", "        if request.background:", "        if False:"
    ),
    "those that nobody hurries for count in full": _planted(
        CROWD, "queues", "self._hopeless_since and not request.background", "self._hopeless_since"
    ),
    "those that can be saved never let others": _planted(
        CROWD,
        "granting",
        "plain = impatient or (model.grants + 1) % policy.fifo_turn == 0",
        "plain = impatient",
    ),
    "no patience": _planted(
        CROWD, "granting", "impatient = waited_s >= policy.patience", "impatient = False"
    ),
    "what was given is forgotten": _planted(
        CROWD, "granting", "state.tenants.begins(tenant, worth, charged, now)", "pass"
    ),
    "pays for what it never got": _planted(CALM, "events", "elif not lease.answered:", "elif False:"),
    "answers are charged to nobody": _planted(
        CALM, "events", "PROMPT_SHARE * tokens + output_tokens - lease.charged, now)", "0.0, now)"
    ),
    "another tenant pays": _planted(
        CROWD,
        "granting",
        "state.tenants.begins(tenant, worth, charged, now)",
        'state.tenants.begins("ann", worth, charged, now)',
    ),
    "a tenant's cap is gone": _planted(CROWD, "queues", "return need - sum(", "return need - 0 * sum("),
    "a batch is held for ever": _planted(
        BATCHES, "granting", "    if until <= now:\n        return now\n", "    until = max(until, now + 1)\n"
    ),
    "the queue has no bound": _planted(
        CROWD, "events", "len(model.queue.waiting) < model.queue_bound", "True"
    ),
    "too large a model waits": _planted(ANY, "events", "too_large is not None and", "False and"),
    "late requests wait for ever": _planted(
        CALM,
        "fleet_events",
        "_give_up(state, heappop(state.deadlines)[1])",
        "heappop(state.deadlines)",
    ),
    "a failed load is tried again at once": _planted(
        FAILING, "placement", "and worker.instance not in model.failures", "and True"
    ),
    "a failed load is never tried again": _planted(
        ONE_FAILS, "fleet_events", "del model.failures[where]", "pass"
    ),
    "refused everywhere, and nobody is told": _planted(
        ONE_FAILS, "settling", "                _reject_unloadable(state, model)\n", "                pass\n"
    ),
    "told of a refusal too soon": _planted(
        TWO_FAIL, "settling", "if not told or len(told) < len(servers):", "if not told:"
    ),
    "a fault is overlooked": _planted(
        FAILING, "events", "if resident.fault and not replica.fault:", "if False:"
    ),
    "memory that ran out is overlooked": _planted(
        OUT_OF_MEMORY,
        "events",
        "RESIDENT or replica.fault:\n        return",
        "RESIDENT or True:\n        return",
    ),
    "other constants do not count": _planted(
        OTHER_CONSTANTS, "fleet_events", "state.policy = event.policy", "pass"
    ),
    "keep-alive is ignored": _planted(
        ANY, "fleet_events", "elif replica.stays_until <= now and", "elif False and"
    ),
    "the last tenant's keep-alive wins": _planted(
        KEEPS, "events", "    wishes = replica.wishes\n", "    wishes = replica.wishes\n    wishes.clear()\n"
    ),
    "a wish for ever ends at once": _planted(
        ANY, "events", "inf if keep is None else now + keep", "now + (keep or 0)"
    ),
    "an explicit unload is not honoured": _planted(
        ANY, "events", "        replica.unload_asked = True\n", ""
    ),
    "an explicit unload hits the next user": _planted(
        ANY, "events", "    replica.unload_asked = False\n", ""
    ),
    "a plan whose clients left stays": _planted(
        SWAPS, "settling", "        if not model.coming or (", "        if True or ("
    ),
    "what is seen does not count": _planted(
        ANY, "events", "            state.drop(replica)\n    _drop", "            pass\n    _drop"
    ),
    "a dead worker is not forgotten": _planted(
        ANY, "fleet_events", "worker = state.workers.pop(instance)", "worker = state.workers[instance]"
    ),
    "a dead worker's models count on": _planted(
        ANY,
        "fleet_events",
        "    for replica in list(worker.replicas.values()):\n        state.drop(replica)\n",
        "",
    ),
    "a retry goes back to where it failed": _planted(
        RETRIES, "dispatch", "request.avoid | request.barred\n    return [", "request.barred\n    return ["
    ),
    "sent where it cannot be served": _planted(
        MIXED, "dispatch", "if not (request.avoid or request.barred):", "if not request.avoid:"
    ),
    "loaded where nobody can be served": _planted(
        MIXED,
        "demand",
        "waited_s if overdue else urgency,\n        barred,",
        "waited_s if overdue else urgency,\n        NOWHERE,",
    ),
    "who cannot be served holds up who can": _planted(
        MIXED,
        "queues",
        "        elif not request.barred or self.is_apart:\n            self._stand(",
        "        elif not request.barred:\n            self._stand(",
    ),
    "slots of no use count for those who are barred": _planted(
        MIXED, "demand", "if instance not in barred]", "if True]"
    ),
    "prompts that are read are not noted": _planted(
        CALM, "granting", "replica.worker.reading[request.request] = option.prompt_s", "pass"
    ),
    "active models drift": _planted(
        CALM,
        "residency",
        "self.worker.active += (active > 0) - (self.active_counted > 0)",
        "self.worker.active += active > 0",
    ),
    "shares drift": _planted(CALM, "events", "replica.model.sharing.gave_back(lease.use)", "pass"),
}
