"""Stands between the scheduler and its workers, and checks every effect against the promises.

Written from the promises: it keeps accounts of its own and looks into the scheduler only to learn what is
being drained or about to be loaded, which no effect tells.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from gateway.scheduling.names import Instance, Variant
from gateway.scheduling.types import (
    Arrived,
    DeadlinePassed,
    Effect,
    Event,
    FleetChanged,
    Grant,
    Load,
    PolicyChanged,
    Reject,
    RejectReason,
    Unload,
    UnloadAsked,
)
from supervisor.contract.config import SchedulingConfig
from tests.property.scheduler_situation import EPS, RECENT_S, Before, Situation


@dataclass
class Witness(Situation):
    """Checks every effect."""

    # Events in, effects out ---------------------------------------------------------

    def feed(self, event: Event) -> list[Effect]:
        """Give the scheduler an event, obey it and check all that it answers."""
        self.sound = False
        self.before = Before(self.draining(), self.coming(), self.live_keys(), self.slots(), self.over())
        if isinstance(event, Arrived):
            self._arrives(event)
        effects: list[Effect] = self.scheduler.handle(event, self.now)
        if isinstance(event, UnloadAsked):
            self._is_asked_to_go(event.variant)
        if self.twin is not None:
            assert effects == self.twin.handle(event, self.now), "same events, same effects"
        for effect in effects:
            self._obey(effect)
        self._check_returned()
        self._check_drains()
        self._check_coming()
        if isinstance(event, UnloadAsked):
            self._check_unload_asked(event.variant)
        self.sound = True
        return effects

    def tell_fleet(self) -> None:
        """Tell the scheduler of all workers."""
        self.feed(FleetChanged(tuple(world.view for world in self.worlds.values()), self.bounds))

    def change_policy(self, policy: SchedulingConfig) -> None:
        """Have the scheduler, and the promises, go by other constants."""
        self.policy, self.strikes.retry_s = policy, policy.load_retry
        self.feed(PolicyChanged(policy))

    def pass_time(self, seconds: float) -> None:
        """Sleep as the shell does: from one named deadline to the next."""
        end = self.now + seconds
        while (due := self.scheduler.next_deadline(self.now)) is not None and due <= end:
            assert due > self.now, "a deadline that does not move time on"
            self.now = due
            self.feed(DeadlinePassed())
        self.now = end

    def _arrives(self, event: Arrived) -> None:
        self.requests[event.request] = event
        if self._refusal(event) is None:
            mean = self.scheduler.estimates.of(event.variant).output_tokens
            self.tokens.arrives(event, mean, self.now)
            if not event.avoid:
                self.last_asked[event.variant, event.tenant] = self.now
        self.waiting[event.request] = event

    def _is_asked_to_go(self, variant: Variant) -> None:
        here = {(i, variant) for i, world in self.worlds.items() if variant in world.held}
        self.asked |= here | {key for key in self.before.coming if key[1] == variant}
        for instance, _ in here:
            self.worlds[instance].held[variant].wishes.clear()

    def _refusal(self, event: Arrived) -> RejectReason | None:
        """Return why a request must be refused at the door."""
        servers = [world for world in self.worlds.values() if event.variant in world.view.servable]
        if not servers:
            return RejectReason.UNKNOWN_MODEL
        useful = [world for world in servers if world.view.instance not in event.barred]
        if not useful:
            return RejectReason.BARRED
        others = [world for instance, world in self.worlds.items() if instance not in event.barred]
        held = any(event.variant in (*w.held, *w.loading, *w.unloading) for w in others)
        if not held and all(w.view.servable[event.variant] > w.view.memory_bytes for w in useful):
            return RejectReason.NO_MEMORY
        free = [i for i in self.worlds if self.has_free_slot(i, event.variant)]
        if event.avoid or not set(free) <= event.barred:
            return None
        full = len(self.queue(event.variant)) >= sum(world.view.max_queue for world in servers)
        return RejectReason.QUEUE_FULL if full else None

    def _obey(self, effect: Effect) -> None:
        match effect:
            case Grant():
                self._check_grant(effect)
            case Load():
                self._check_load(effect)
            case Unload():
                self._check_unload(effect)
            case Reject():
                self._check_reject(effect)

    # Grants -------------------------------------------------------------------------

    def _check_grant(self, grant: Grant) -> None:
        assert grant.request in self.waiting, "answered twice, or after it left"
        request, key = self.requests[grant.request], (grant.instance, grant.variant)
        assert grant.variant == request.variant, "grant of another model"
        assert grant.instance in self.worlds, "grant to a dead incarnation"
        held = self.worlds[grant.instance].begin_answer(grant.request, grant.variant)
        assert not (key in self.before.draining and key in self.draining()), "grant to what is drained"
        assert abs(grant.queued_s - (self.now - request.arrived_at)) < EPS
        assert grant.instance not in request.barred, "grant where it is barred"
        if grant.instance in request.avoid:
            not_there = request.avoid | request.barred
            others = [i for i in self.servers(grant.variant) if i not in not_there]
            assert not any(self._serves_soon(i, grant.variant) for i in others), (
                "goes back to where it failed"
            )
        self.grants[grant.variant] += 1
        self._check_turn(request, grant.instance)
        self.asked.discard(key)
        held.last_used = self.now
        del self.waiting[grant.request]
        self.granted[grant.request] = grant.instance
        mean = self.scheduler.estimates.of(request.variant).output_tokens
        self.tokens.granted(request, mean, self.now)

    def _avoids_no_more(self, request: Arrived) -> Arrived:
        """It stands in line again, with its place."""
        again = replace(request, avoid=frozenset())
        self.requests[request.request] = self.waiting[request.request] = again
        return again

    def _check_returned(self) -> None:
        """Only those that failed wherever the model is, or will be, stand in line again."""
        for request in [request for request in self.waiting.values() if request.avoid]:
            if request.request not in self.scheduler._state.models[request.variant].queue.returned:
                having = {i for i, v in self.live_keys() if v == request.variant}
                assert having <= request.avoid | request.barred, "avoids no more although another could serve"
                self._avoids_no_more(request)

    def _serves_soon(self, instance: Instance, variant: Variant) -> bool:
        """Whether it has the model, or has plain room for it."""
        world = self.worlds[instance]
        there = len(world.held) + len(world.loading) + len(world.unloading)
        taken = world.taken_bytes(self.need) + self.need[variant] > world.view.memory_bytes
        room = (
            there < world.view.max_loaded_models
            and not taken
            and not self.strikes.waits(instance, variant, self.now)
        )
        rival = world.view.one_per_weights and any(v.digest == variant.digest for v in world.held)
        most = self.bound(variant).most
        full = most is not None and self.holders(variant) >= most
        busy = variant in world.unloading or instance in {i for i, _ in self.coming() | self.before.coming}
        return (instance, variant) in self.live_keys() or (room and not (busy or full or rival))

    def _check_turn(self, request: Arrived, where: Instance) -> None:
        """Fair among tenants, first come first served within each of them."""
        queue = self.queue(request.variant)
        if request.avoid:
            back = [o for o in queue if o.avoid and where not in o.avoid | o.barred]
            assert all(o.arrived_at >= request.arrived_at for o in back), "a retry lost its place"
            return
        line = [other for other in queue if not other.avoid and where not in other.barred]
        older = [o for o in line if o.tenant == request.tenant and o.arrived_at < request.arrived_at]
        late = self.is_late(request)
        assert all(self.is_late(other) != late for other in older), "overtaken by a younger of its own tenant"
        patience = self.policy.patience
        assert all(self.age(other) < patience for other in older), "waits behind a younger beyond patience"
        self._check_tenant(request, queue, line)

    def _check_tenant(self, request: Arrived, queue: list[Arrived], line: list[Arrived]) -> None:
        """Those over their share come after the others, and may be left out when they flood the model."""
        equal = [o for o in line if o.tenant == request.tenant or not self.floods(o.tenant, o.variant)]
        savable = [other for other in equal if not self.is_late(other)]
        impatient = max(self.age(other) for other in queue) >= self.policy.patience
        if impatient or self.grants[request.variant] % self.policy.fifo_turn == 0:
            assert all(o.arrived_at >= request.arrived_at for o in equal), "not the oldest in its turn"
            return
        assert request in savable or not savable, "a late request goes before one that can be saved"
        pool = savable or equal
        excess = {other.tenant: self.tokens.excess(other.tenant, self.now) for other in pool}
        if None in excess.values():
            return
        within = [other for other in pool if not excess[other.tenant]]
        if not self.is_over(request.tenant):
            assert all(o.arrived_at >= request.arrived_at for o in within), "not the oldest of equals"
        else:
            assert not within, "over its share, and not served after the others"

    def is_over(self, tenant: str) -> bool:
        """Whether it is over its share, and was so when it was last heard of."""
        known = tenant in self.before.over and tenant in self.over()
        return known and self.tokens.excess(tenant, self.now) != 0.0

    def floods(self, tenant: str, variant: Variant) -> bool:
        """Whether so many of the tenant's requests wait that slots may be kept from it for others."""
        slots = min(self.before.slots[variant], self.slots()[variant])
        backlog = sum(request.tenant == tenant for request in self.queue(variant))
        others = [at for (v, who), at in self.last_asked.items() if v == variant and who != tenant]
        recent = any(self.now - at < RECENT_S for at in others)
        return recent and backlog >= slots and self.tokens.excess(tenant, self.now) != 0.0

    # Loads and unloads ----------------------------------------------------------------

    def _check_load(self, load: Load) -> None:
        variant, instance = load.variant, load.instance
        assert instance in self.worlds, "load on a dead incarnation"
        most = self.bound(variant).most
        assert most is None or self.holders(variant) < most, "more replicas than max_replicas"
        assert not self.strikes.forbidden(instance, variant, self.now), "loads what failed there just now"
        wanted = any(instance not in request.barred for request in self.queue(variant))
        assert wanted or self.needs_keeping(variant), "loads what nobody waits for"
        self.worlds[instance].begin_load(variant, self.need, self.now)

    def _check_unload(self, unload: Unload) -> None:
        world, variant = self.worlds[unload.instance], unload.variant
        key = unload.instance, variant
        kept = self.is_kept(unload.instance, variant)
        held = world.begin_unload(variant)
        asked = key in self.asked
        self.asked.discard(key)
        if held.faulty:
            return
        assert not kept, "a pinned model was unloaded"
        if key in self.before.draining or asked:
            return
        if held.stays_until(world.view.keep_alive_s) > self.now + EPS:
            self._check_eviction(unload.instance, variant, held.since)

    def _check_eviction(self, instance: Instance, victim: Variant, since: float) -> None:
        """It makes room for another model, and was there long enough or that one has waited for long."""
        coming = next((v for i, v in self.coming() if i == instance), None)
        assert coming is not None, "unloads an idle model that is wanted, for nothing"
        if self.needs_keeping(coming):
            return
        tenure_s = self.policy.min_tenure * self.load_s(instance, victim)
        enough = since + tenure_s <= self.now + EPS
        waited = self._is_alone(instance, coming) and self.oldest_age(coming) >= tenure_s - EPS
        assert enough or waited, "no tenure"

    def _is_alone(self, instance: Instance, coming: Variant) -> bool:
        """Whether somebody for whom the model comes has no other replica to hope for."""
        lasting = self.before.live & self.live_keys()
        others = {i for i, v in lasting if v == coming and i != instance}
        not_there = [request.avoid | request.barred for request in self.queue(coming)]
        return not others or any(instances >= others for instances in not_there if instances)

    def load_s(self, instance: Instance, variant: Variant) -> float:
        seconds: float = self.scheduler.estimates.of(variant).load_s(instance.worker, self.need[variant])
        return seconds

    def _check_drains(self) -> None:
        """A busy model is given up only for one that has waited too long and has no other place."""
        for instance, victim in self.draining() - self.before.draining:
            held = self.worlds[instance].held[victim]
            if held.faulty:
                continue
            assert len(self.healthy(victim)) >= self.bound(victim).least, "a pinned model is drained"
            coming = next((v for i, v in self.coming() if i == instance), None)
            assert coming is not None, "drains for nothing"
            flood = self._is_flooded(victim, coming)
            after = self.policy.flood_drain_after if flood else self.policy.drain_after
            wished = flood and self.needs_keeping(coming)  # by the operator, who need not wait
            assert wished or self.oldest_age(coming) >= after - EPS, "drains a busy model early"
            assert held.since + self.load_s(instance, victim) <= self.now + EPS, "no tenure"
            assert self._is_alone(instance, coming) or self.live()[victim], (
                "drains the last one for a further one"
            )

    def _is_flooded(self, victim: Variant, coming: Variant) -> bool:
        """Whether only a flood keeps a replica of the victim busy, and somebody else waits."""
        slots = min(self.before.slots[victim], self.slots()[victim])
        backlog = Counter(request.tenant for request in self.queue(victim))
        floods = {tenant for tenant, waiting in backlog.items() if waiting >= slots}  # when last looked at
        waiting = {request.tenant for request in self.queue(coming)}
        return self.live()[victim] > 0 and any(waiting - {flood} for flood in floods)

    def _check_coming(self) -> None:
        """No more is loaded than what waits can use."""
        for variant in {variant for _, variant in self.coming() - self.before.coming}:
            new = [i for i, v in self.coming() - self.before.coming if v == variant]
            slots = {i: self._expected_slots(i, v) for i, v in self.coming() if v == variant}
            up = {i: count for i, count in slots.items() if i in self.servers(variant)}
            enough = self.live()[variant] > self.bound(variant).least
            needed = any(self._needs_more(variant, barred, up, new) for barred in self.sets(variant))
            assert needed or not enough, "two loads for one need"

    def _needs_more(
        self, variant: Variant, barred: frozenset[Instance], coming: dict[Instance, int], new: list[Instance]
    ) -> bool:
        """Whether those who are barred from these workers are more than the slots of the other loads."""
        useful = {instance: slots for instance, slots in coming.items() if instance not in barred}
        others = sum(useful.values()) - max(useful.get(instance, 0) for instance in new)
        waiting = [request for request in self.queue(variant) if request.barred == barred]
        return any(instance in useful for instance in new) and len(waiting) > others

    def _check_unload_asked(self, variant: Variant) -> None:
        for instance, world in self.worlds.items():
            idle = world.view.ready and variant in world.idle()
            waited_for = any(instance not in request.barred for request in self.queue(variant))
            excused = self.is_kept(instance, variant) or waited_for
            assert not idle or excused, "an explicit unload is not honoured"

    # Rejections -----------------------------------------------------------------------

    def _check_reject(self, reject: Reject) -> None:
        assert reject.request in self.waiting, "answered twice, or after it left"
        request = self.waiting.pop(reject.request)
        self.tokens.waits_no_more(reject.request)
        match reject.rejection.reason:
            case RejectReason.DEADLINE:
                assert request.deadline <= self.now, "given up before its deadline"
            case RejectReason.LOAD_FAILED:
                servers = [i for i in self.servers(request.variant) if i not in request.barred]
                assert servers
                assert self.strikes.refused_everywhere(request.variant, servers), "refused without a reason"
                assert not set(servers) & self.live_on(request.variant), "refused although it is resident"
            case reason:
                assert request.arrived_at <= self.now
                assert reason == self._refusal(request), "refused at the door without a reason"
