"""Every count that the scheduler keeps, against what it comes to when it is counted from nothing."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import Any

from gateway.scheduling.names import Variant
from gateway.scheduling.types import Arrived
from tests.property.scheduler_ledger import HARD_TO_SAY
from tests.property.scheduler_situation import EPS
from tests.property.scheduler_witness import Witness
from tests.property.scheduler_world import World


def check(witness: Witness) -> None:
    """Count everything again."""
    state = witness.scheduler._state
    assert set(state.workers) == set(witness.worlds), "the fleet is another"
    for instance, worker in state.workers.items():
        _check_holdings(worker, witness.worlds[instance])
        _check_counts(witness, worker, witness.worlds[instance])
        _check_open(state, worker)
    for model in state.models.values():
        _check_slots(model)
        _check_queue(witness, model)
        _check_shares(witness, model)
    _check_requests(witness, state)
    _check_tenants(witness, state)


def _phases(worker: Any, *phases: str) -> set[Variant]:
    return {variant for variant, replica in worker.replicas.items() if replica.phase in phases}


def _check_holdings(worker: Any, world: World) -> None:
    """What it is believed to hold is what it holds."""
    assert _phases(worker, "resident") | _phases(worker, "planned") >= set(world.held), "believes less"
    assert _phases(worker, "resident") <= set(world.held), "believes what is not there"
    assert _phases(worker, "loading") == set(world.loading)
    assert _phases(worker, "unloading") == set(world.unloading)
    assert not _phases(worker, "gone")
    for variant in _phases(worker, "resident"):
        replica, held = worker.replicas[variant], world.held[variant]
        assert (replica.slots, replica.size_bytes) == (held.resident.slots, held.resident.size_bytes)
        assert replica.since == held.since


def _check_counts(witness: Witness, worker: Any, world: World) -> None:
    coming = _phases(worker, "planned", "loading")
    assert coming == ({worker.coming} - {None}), "a worker loads one model at a time"
    assert worker.used_bytes == sum(replica.size_bytes for replica in worker.replicas.values())
    assert worker.active == len(set(world.running.values()))
    busy = {request for replica in worker.replicas.values() for request in replica.busy}
    assert busy == set(world.running), "slots in use are not the requests that run"
    assert set(worker.reading) == busy - witness.answering, "prompts that are read"


def _check_open(state: Any, worker: Any) -> None:
    """The sets of workers that placement looks at, once it does."""
    state._sort_workers()
    accepts = worker.view.ready and worker.coming is None
    idle = any(not replica.busy for replica in worker.replicas.values())
    assert (worker in state._accepting._at) == accepts, "the workers that might load drifted"
    assert accepts or worker not in state._open._at, "open, and loads already"
    assert worker in state._open._at or not (accepts and idle), "an idle model would do, and is not seen"


def _check_slots(model: Any) -> None:
    live = [replica for replica in model.replicas.values() if replica.live]
    there = [replica for replica in live if replica.phase == "resident"]
    assert model.slots == sum(replica.slots for replica in there), "slots drifted"
    coming = [replica for replica in live if replica.phase in ("planned", "loading")]
    assert model.coming == sum(replica.slots for replica in coming), "coming slots drifted"
    free = {r.worker.view.instance for r in there if len(r.busy) < r.slots}
    assert set(model.free) == free, "free slots drifted"
    for instance, replica in model.replicas.items():
        assert replica.worker.replicas[model.variant] is replica
        assert replica.worker.view.instance == instance


def _check_queue(witness: Witness, model: Any) -> None:
    """A queue weighs what its requests do: late ones less, one tenant's not beyond its cap."""
    queue = witness.queue(model.variant)
    assert len(model.queue) == len(queue)
    views = [w.view for w in witness.worlds.values() if model.variant in w.view.servable]
    if not views:
        return
    most = witness.policy.tenant_cap * max(view.num_parallel for view in views)
    since, late = model.queue._hopeless_since, witness.policy.late_weight
    weight = {request.tenant: 0.0 for request in queue}
    for request in queue:
        hopeful = request.arrived_at >= since and not request.background
        weight[request.tenant] += 1.0 if hopeful else late
    assert abs(model.queue.need - sum(weight.values())) < EPS, "the need drifted"
    _check_apart(queue, model, most)
    if queue:
        assert abs(witness.now - model.queue.oldest_arrival - witness.oldest_age(model.variant)) < EPS


def _check_apart(queue: list[Arrived], model: Any, most: float) -> None:
    """Those that are barred from the same workers, and those from none, are counted by themselves."""
    since, late = model.queue._hopeless_since, model.queue.weighing.late_weight
    assert set(model.queue.barred) == {request.barred for request in queue} - {frozenset()}
    for barred, part in ((frozenset(), model.queue), *model.queue.barred.items()):
        own = [request for request in queue if request.barred == barred]
        weight = Counter[str]()
        for request in own:
            weight[request.tenant] += 1 if request.arrived_at >= since and not request.background else late
        bounded = sum(min(count, most) for count in weight.values())
        assert abs(part.weight(weight) - bounded) < EPS, "the bounded need drifted"
        assert part.waiting_here == len(own)
        first = min((request.arrived_at for request in own), default=inf)
        assert part.oldest_arrival_here == first, "the oldest is another"


def _check_shares(witness: Witness, model: Any) -> None:
    """Who holds how many of the model's slots, on workers that live."""
    requests = [r for world in witness.worlds.values() for r in world.running]
    holders = [witness.requests[request] for request in requests]
    held = Counter(request.tenant for request in holders if request.variant == model.variant)
    assert model.sharing.busy == held.total(), "slots in use drifted"
    assert {tenant: use.held for tenant, use in model.sharing._uses.items() if use.held} == held


def _check_requests(witness: Witness, state: Any) -> None:
    assert set(state.waiting) == set(witness.waiting), "somebody is lost"
    assert set(state.leases) == set(witness.granted), "leases are not the requests that run"
    queued: set[Variant] = {request.variant for request in witness.waiting.values()}
    assert {model.variant for model in state.queued_models._at} == queued
    assert witness.scheduler.total_queued == len(witness.waiting)
    assert not state.touched
    assert not state.opened


def _check_tenants(witness: Witness, state: Any) -> None:
    waiting = Counter(request.tenant for request in witness.waiting.values())
    tenants = state.tenants
    assert {name: known.waiting for name, known in tenants._tenants.items() if known.waiting} == waiting
    for tenant, known in tenants._tenants.items():
        counted = known.used / tenants._unit(witness.now) + known.queued
        demand = witness.tokens.demand(tenant, witness.now)
        assert abs(counted - demand) < HARD_TO_SAY, "a tenant was given something else"


def check_no_trace(witness: Witness) -> None:
    """From every reachable state, when all clients have left, nothing is held for them any more."""
    state = witness.scheduler._state
    assert not state.leases
    assert not state.waiting
    assert not any(known.waiting or known.queued for known in state.tenants._tenants.values())
    for model in state.models.values():
        queue = model.queue
        kept = (queue.waiting, queue._lines, queue.returned, queue._by_age, queue._hopeful, queue.barred)
        assert not any(kept), "somebody who left is still noted"
        assert queue.need == 0
        assert not queue.heavy
    for worker in state.workers.values():
        assert not worker.active
        assert not worker.reading
        assert not worker.view.ready or _phases(worker, "planned") <= set(_kept(witness))


def _kept(witness: Witness) -> list[Variant]:
    return [variant for variant, bounds in witness.bounds.items() if bounds.least]
