"""What holds after every event, whatever happened: promises that are not about a single effect."""

from __future__ import annotations

from gateway.scheduling.names import Instance, Variant
from gateway.scheduling.types import Arrived
from tests.property.scheduler_situation import EPS
from tests.property.scheduler_witness import Witness
from tests.property.scheduler_world import HUGE


def check(witness: Witness) -> None:
    """Check all of them."""
    for promise in PROMISES:
        promise(witness)


def no_free_slot_while_a_request_waits(witness: Witness) -> None:
    """But for those that avoid it, a batch that fills up, and slots that are kept from a flood."""
    for request in witness.waiting.values():
        having = [i for i, variant in witness.live_keys() if variant == request.variant]
        nowhere_else = all(instance in request.avoid | request.barred for instance in having)
        free = [i for i in witness.worlds if witness.has_free_slot(i, request.variant)]
        usable = [i for i in free if i not in request.barred and (nowhere_else or i not in request.avoid)]
        if usable and not request.avoid and _fills_a_batch(witness, free, request.variant):
            continue
        assert not usable or _leaves_slots(witness, request), "a free slot and a waiter"


def _fills_a_batch(witness: Witness, free: list[Instance], variant: Variant) -> bool:
    """Whether it may be held back a little, because other models compute on each of the workers."""
    worlds = [witness.worlds[instance] for instance in free]
    young = witness.oldest_age(variant) < witness.policy.batch_hold
    return young and all(
        not world.busy(variant)
        and world.running
        and len(witness.queue(variant)) <= world.held[variant].resident.slots
        for world in worlds
    )


def _leaves_slots(witness: Witness, request: Arrived) -> bool:
    """Whether it may be one of a flood that is kept from the last slots until one of its answers ends."""
    variant = request.variant
    busy = sum(world.busy(variant) for world in witness.worlds.values())
    backlog = sum(other.tenant == request.tenant for other in witness.queue(variant))
    others = {who for model, who in witness.last_asked if model == variant} - {request.tenant}
    return not request.avoid and busy > 0 and bool(others) and backlog >= witness.slots()[variant]


def nobody_waits_beyond_its_deadline(witness: Witness) -> None:
    """It is told that it was given up."""
    assert all(request.deadline > witness.now for request in witness.waiting.values())


def an_expired_idle_model_is_on_its_way_out(witness: Witness) -> None:
    """But while its requests are held back for a fuller batch, and a moment longer."""
    for instance, world in witness.worlds.items():
        for variant in world.idle() if world.view.ready else ():
            held = world.held[variant]
            assert not held.faulty, "an idle faulty model stays"
            if any(instance not in request.barred for request in witness.queue(variant)):
                held.waited_for_at = witness.now
            over = held.stays_until(world.view.keep_alive_s) <= witness.now
            excused = witness.now <= held.waited_for_at + witness.policy.batch_hold + 1.0
            assert not over or excused or witness.is_kept(instance, variant), "outlives its keep-alive"


def what_is_planned_is_waited_for_and_what_drains_makes_room(witness: Witness) -> None:
    """Whatever is planned has somebody who wants it, and nothing drains for its own sake."""
    plans = {key for key in witness.coming() if witness.worlds[key[0]].view.ready}
    for instance, variant in plans - {(i, v) for i, w in witness.worlds.items() for v in w.loading}:
        wanted = any(instance not in request.barred for request in witness.queue(variant))
        assert wanted or witness.needs_keeping(variant), "plans what nobody waits for"
    for instance, victim in witness.draining():
        held = witness.worlds[instance].held[victim]
        assert held.faulty or witness.scheduler._state.workers[instance].coming, "drains for nothing"


def a_model_without_a_replica_is_loaded_where_there_is_room(witness: Witness) -> None:
    """Without waiting for anything else to happen; nor has one that is of no use to somebody who waits."""
    live = witness.live_keys()
    for variant, barred in {(request.variant, request.barred) for request in witness.waiting.values()}:
        useful = [i for i, v in live if v == variant and i not in barred]
        if not useful and not _full(witness, variant):
            there = [i for i in witness.servers(variant) if _has_room(witness, i, variant)]
            assert set(there) <= barred, "nobody loads what is waited for"


def _full(witness: Witness, variant: Variant) -> bool:
    most = witness.bound(variant).most
    return most is not None and witness.holders(variant) >= most


def _has_room(witness: Witness, instance: Instance, variant: Variant) -> bool:
    """Whether it could be loaded there now without hurting anybody."""
    world = witness.worlds[instance]
    there = [*world.held, *world.unloading]
    idle = _free_to_go(witness, instance)
    staying = [held.resident.size_bytes for v, held in world.held.items() if v not in idle]
    staying += world.unloading.values()  # until they are gone nothing has to be decided
    room = world.view.memory_bytes - sum(staying) >= witness.need[variant]
    rivals = [v for v in there if v.digest == variant.digest and v not in idle]
    return (
        instance not in {i for i, _ in witness.coming()}
        and variant not in there
        and not witness.strikes.waits(instance, variant, witness.now)
        and room
        and len(staying) < world.view.max_loaded_models
        and not (world.view.one_per_weights and rivals)
    )


def _free_to_go(witness: Witness, instance: Instance) -> set[Variant]:
    """Return the idle models that have had their time, by the longest that their load may take."""
    world = witness.worlds[instance]
    over = set()
    for variant in world.idle():
        held = world.held[variant]
        held.tenure_s = max(held.tenure_s, witness.load_s(instance, variant))
        ready_to_go = held.since + witness.policy.min_tenure * held.tenure_s < witness.now - EPS
        held_back = (
            bool(witness.queue(variant)) or witness.now <= held.waited_for_at + witness.policy.batch_hold
        )
        if ready_to_go and not witness.is_kept(instance, variant) and not held_back:
            over.add(variant)
    return over


def a_model_that_fits_nowhere_never_waits(witness: Witness) -> None:
    """It is refused at the door."""
    assert not witness.queue(HUGE)


def nobody_waits_for_what_was_refused_everywhere(witness: Witness) -> None:
    """Its requests hear the engine's reason; while nobody is up there is still hope."""
    live = witness.live_keys()
    for variant, barred in {(request.variant, request.barred) for request in witness.waiting.values()}:
        up = [instance for instance in witness.servers(variant) if instance not in barred]
        refused = witness.strikes.refused_everywhere(variant, up)
        early = all(witness.strikes.forbidden(instance, variant, witness.now) for instance in up)
        useful = [i for i, v in live if v == variant and i not in barred]
        assert not (up and refused and early) or useful, "refused, and nobody is told"


def whatever_the_operator_wants_held_comes_where_there_is_room(witness: Witness) -> None:
    """Unasked."""
    for variant, bound in witness.bounds.items():
        if witness.live()[variant] < bound.least and not _full(witness, variant):
            there = [i for i in witness.servers(variant) if _has_room(witness, i, variant)]
            assert not there, "does not load what is to be kept"


PROMISES = (
    no_free_slot_while_a_request_waits,
    nobody_waits_beyond_its_deadline,
    an_expired_idle_model_is_on_its_way_out,
    what_is_planned_is_waited_for_and_what_drains_makes_room,
    a_model_without_a_replica_is_loaded_where_there_is_room,
    a_model_that_fits_nowhere_never_waits,
    nobody_waits_for_what_was_refused_everywhere,
    whatever_the_operator_wants_held_comes_where_there_is_room,
)
