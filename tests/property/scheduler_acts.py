"""What workers and clients do next, and a quiet time in which all that is under way comes to its end."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.types import (
    Adopted,
    Answering,
    Arrived,
    Finished,
    Left,
    Loaded,
    LoadFailed,
    Observed,
    RanOutOfMemory,
    Resident,
    Unloaded,
)
from tests.property.scheduler_witness import Witness
from tests.property.scheduler_world import Held

LOAD_S, UNLOAD_S, ANSWER_S = 1.0, 0.1, 1.0
"""What things take in a quiet time."""
MOST_STEPS = 3000
Act = tuple[str, Instance, str]
"""What ends, where, and of which request or model."""

# Clients and answers ------------------------------------------------------------------


def adopt(witness: Witness, request: Arrived, instance: Instance) -> None:
    """Another gateway began the answer and will tell when it ends."""
    witness.requests[request.request], witness.granted[request.request] = request, instance
    witness.worlds[instance].running[request.request] = request.variant
    witness.answering.add(request.request)
    mean = witness.scheduler.estimates.of(request.variant).output_tokens
    witness.tokens.granted(request, mean, witness.now)
    granted_at = request.arrived_at + (witness.now - request.arrived_at) / 2
    assert not witness.feed(Adopted(request, instance, granted_at)), "does something about it"


def begin_answer(witness: Witness, request: RequestId) -> None:
    """The first token is there."""
    witness.answering.add(request)
    witness.feed(Answering(request))


def finish(witness: Witness, request: RequestId, output: int | None, prompt: int | None) -> None:
    """The answer ends."""
    end = Finished(request, output_tokens=output, prompt_tokens=prompt)
    witness.tokens.finished(witness.requests[request], end, witness.now)
    _release(witness, request)
    witness.feed(end)


def leave(witness: Witness, request: RequestId) -> None:
    """The client goes away, waiting or granted, and says so twice."""
    if request in witness.granted:
        ended = witness.requests[request]
        witness.tokens.left(ended, witness.now, answered=request in witness.answering)
        _release(witness, request)
    else:
        del witness.waiting[request]
        witness.tokens.waits_no_more(request)
    witness.feed(Left(request))
    assert not witness.feed(Left(request)), "leaving twice does something twice"


def _release(witness: Witness, request: RequestId) -> None:
    where = witness.granted.pop(request)
    witness.answering.discard(request)
    world, ended = witness.worlds.get(where), witness.requests[request]
    if world is None:
        return
    del world.running[request]
    held = world.held[ended.variant]
    held.last_used = witness.now
    keep_s = ended.keep_alive_s if ended.keep_alive_given else world.view.keep_alive_s
    if (where, ended.variant) in witness.asked:
        held.wishes = {ended.tenant: witness.now}
    else:
        held.wishes[ended.tenant] = inf if keep_s is None else witness.now + keep_s


# Workers ------------------------------------------------------------------------------


def resident(variant: Variant, size_bytes: int, slots: int, fault: str = "") -> Resident:
    """Return what a worker reports."""
    context = dict(variant.options).get("num_ctx", 8)
    return Resident(
        slots=slots, size_bytes=size_bytes, size_vram_bytes=size_bytes, context_length=context, fault=fault
    )


def load_ends(witness: Witness, instance: Instance, seen: Resident) -> None:
    """A load is done."""
    world = witness.worlds[instance]
    variant = next(iter(world.loading))
    del world.loading[variant]
    seen = _grown(witness, variant, seen)
    held = world.held[variant] = Held(seen, since=witness.now, last_used=witness.now)
    witness.need[variant] = seen.size_bytes
    if (instance, variant) in witness.asked:
        held.wishes = {"": witness.now}
    if not seen.fault:
        witness.strikes.succeeded(instance, variant)
    _judge(witness, instance, variant, held)
    witness.feed(Loaded(instance, variant, seen))


def load_fails(witness: Witness, instance: Instance, *, lasting: bool) -> None:
    """A load comes to nothing."""
    world = witness.worlds[instance]
    variant = next(iter(world.loading))
    del world.loading[variant]
    witness.asked.discard((instance, variant))
    if lasting:
        witness.strikes.refused(instance, variant, witness.now)
    else:
        witness.strikes.broke_off(instance, variant, witness.now)
    witness.feed(LoadFailed(instance, variant, "refused" if lasting else "broken", lasting=lasting))


def unload_ends(witness: Witness, instance: Instance, variant: Variant) -> None:
    """An unload is done."""
    del witness.worlds[instance].unloading[variant]
    witness.feed(Unloaded(instance, variant))


def vanishes(witness: Witness, instance: Instance, variant: Variant) -> None:
    """A worker gives an idle model up on its own."""
    del witness.worlds[instance].held[variant]
    witness.asked.discard((instance, variant))
    look(witness, instance)


def appears(witness: Witness, instance: Instance, variant: Variant, seen: Resident) -> None:
    """Somebody else loads a model, or it is seen with other numbers than before."""
    seen = _grown(witness, variant, seen)
    held = witness.worlds[instance].held.setdefault(variant, Held(seen, witness.now, witness.now))
    held.resident = seen
    witness.need[variant] = seen.size_bytes
    _judge(witness, instance, variant, held)
    look(witness, instance)


def look(witness: Witness, instance: Instance) -> None:
    """All that the worker holds is seen."""
    held = witness.worlds[instance].held
    for variant, it in held.items():
        it.resident = _grown(witness, variant, it.resident)
    witness.feed(Observed(instance, {variant: it.resident for variant, it in held.items()}))


def _grown(witness: Witness, variant: Variant, seen: Resident) -> Resident:
    """A model that ran out of memory counts as at least what it had then."""
    return replace(seen, size_bytes=max(seen.size_bytes, witness.least[variant]))


def runs_out_of_memory(witness: Witness, request: RequestId) -> None:
    """Memory runs out at an answer: the replica has to go, even if it is seen to be well again."""
    instance, variant = witness.granted[request], witness.requests[request].variant
    event = RanOutOfMemory(instance, variant, "out of memory")
    held = witness.worlds[instance].held[variant] if instance in witness.worlds else None
    if held is None or held.faulty:
        assert not witness.feed(event), "does something about it"
        return
    witness.least[variant] = witness.need[variant] = max(witness.least[variant], held.resident.size_bytes)
    held.faulty = True
    others = [other for other in witness.servers(variant) if other != instance]
    if any(not witness.strikes.failed(other, variant, witness.now) for other in others):
        witness.strikes.refused(instance, variant, witness.now)
    else:
        witness.strikes.broke_off(instance, variant, witness.now)
    witness.feed(event)


def _judge(witness: Witness, instance: Instance, variant: Variant, held: Held) -> None:
    if held.resident.fault and not held.faulty:
        held.faulty = True
        witness.strikes.refused(instance, variant, witness.now)


# Quiet ----------------------------------------------------------------------------------


def quiet_time(witness: Witness) -> None:
    """Nobody comes any more; all who have a possible place must be served within what was promised."""
    hopeful = [r for r, request in witness.waiting.items() if has_place(witness, request)]
    end = witness.now + longest_wait_s(witness)
    ends: dict[Act, float] = {}
    for _ in range(MOST_STEPS):
        due, act = min(_due(witness, ends), default=(inf, ("", Instance("", 0), "")))
        if due > end:
            break
        witness.pass_time(max(0.0, due - witness.now))
        ends.pop(act, None)
        _act(witness, *act)
    else:
        raise AssertionError("it never comes to rest")
    left = [witness.requests[request] for request in hopeful if request in witness.waiting]
    assert not left, "somebody waits for ever although there is a place"


def longest_wait_s(witness: Witness) -> float:
    """Return what the promise allows: drain_after, the drains and loads ahead, after the last backoff."""
    variants = {variant for world in witness.worlds.values() for variant in world.view.servable}
    backoff_s = max((witness.strikes.last(variant) - witness.now for variant in variants), default=0.0)
    names = {instance.worker for instance in witness.worlds}
    estimates = witness.scheduler.estimates
    loads_s: float = sum(
        max(estimates.of(v).load_s(name, witness.need[v]) for name in names) for v in variants
    )
    begun_s = [witness.now - since for world in witness.worlds.values() for since in world.loading.values()]
    here_s = len(variants) * (LOAD_S + UNLOAD_S + ANSWER_S + max(begun_s, default=0.0))
    return witness.policy.drain_after + max(0.0, backoff_s) + 4 * (loads_s + here_s)


def has_place(witness: Witness, request: Arrived) -> bool:
    """Whether a worker could hold its model beside all that must be kept there, and one more may hold it."""
    variant = request.variant
    servers = [instance for instance in witness.servers(variant) if instance not in request.barred]
    up = {
        instance for instance, world in witness.worlds.items() if world.view.ready and variant in world.held
    }
    useless, most = up - set(servers), witness.bound(variant).most
    return (most is None or len(useless) < most) and any(
        _could_hold(witness, instance, variant) for instance in servers
    )


def _could_hold(witness: Witness, instance: Instance, variant: Variant) -> bool:
    view = witness.worlds[instance].view
    kept = {v for v, bounds in witness.bounds.items() if bounds.least and v != variant and v in view.servable}
    room = view.memory_bytes - sum(witness.need[v] for v in kept) >= witness.need[variant]
    rival = view.one_per_weights and any(v.digest == variant.digest for v in kept)
    return room and len(kept) < view.max_loaded_models and not rival


def _due(witness: Witness, ends: dict[Act, float]) -> list[tuple[float, Act]]:
    """Return when each thing under way ends; what began since the last look gets its time."""
    for instance, world in witness.worlds.items():
        for variant in world.loading:
            ends.setdefault(("load", instance, variant.digest), witness.now + LOAD_S)
        for variant in world.unloading:
            ends.setdefault(("unload", instance, variant.digest), witness.now + UNLOAD_S)
    for request, instance in witness.granted.items():
        ends.setdefault(("answer", instance, request), witness.now + ANSWER_S)
    named = witness.scheduler.next_deadline(witness.now)
    timer = [] if named is None else [(named, ("", Instance("", 0), ""))]
    return [(when, act) for act, when in ends.items()] + timer


def _act(witness: Witness, kind: str, instance: Instance, what: str) -> None:
    if kind == "load" and witness.worlds[instance].loading:
        variant = next(iter(witness.worlds[instance].loading))
        load_ends(witness, instance, resident(variant, witness.need[variant], 2))
    elif kind == "unload":
        gone = next(v for v in witness.worlds[instance].unloading if v.digest == what)
        unload_ends(witness, instance, gone)
    elif kind == "answer" and RequestId(what) in witness.granted:
        finish(witness, RequestId(what), 3, None)
