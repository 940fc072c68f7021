"""What the scheduler is told of the fleet: workers, replica bounds, and what each worker holds.

Decides what of the roster becomes which of the scheduler's words, and whether a model that is held is as it
was ordered. Pure; must not know who tells it, nor when.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.fleet.roster import Roster, instance_of, runs
from gateway.scheduling.names import Variant
from gateway.scheduling.types import ReplicaBounds, Resident, WorkerView
from gateway.workers.devices import computes_on_gpu, device_of
from gateway.workers.engines import one_per_weights, uses_gpus
from gateway.workers.faults import fault_of
from supervisor.contract.fleet import DeviceKind, WorkerStatus
from supervisor.contract.footprint import estimate


def worker_views(roster: Roster) -> tuple[WorkerView, ...]:
    """Return all workers for the scheduler."""
    return tuple(_view(roster, status) for status in roster.statuses)


def replica_bounds(roster: Roster) -> dict[Variant, ReplicaBounds]:
    """Return on how many workers the operator wants which models."""
    bounds: dict[Variant, ReplicaBounds] = {}
    for name, wish in roster.wishes.items():
        target = roster.resolve(name)
        if target is not None:
            least = max(wish.min_replicas, 1 if wish.pin else 0)
            bounds[target.variant] = ReplicaBounds(least, wish.max_replicas)
    return bounds


def is_kept_everywhere(roster: Roster, variant: Variant) -> bool:
    """Whether every worker that may serve the model has to hold just this variant of it."""
    bounds = replica_bounds(roster).get(variant)
    return bounds is not None and bounds.least >= len(roster.servers(variant))


def residents_of(
    roster: Roster, status: WorkerStatus, residents: Mapping[str, Resident]
) -> dict[Variant, Resident]:
    """Return what a worker holds as the variants that it was loaded as, told by their context.

    One that nobody here ordered is a variant of its own from then on (`Roster.passed`).
    """
    variants = ((_variant_held(roster, status, name, held), held) for name, held in residents.items())
    return {variant: judged(roster, status, variant, held) for variant, held in variants}


def judged(roster: Roster, status: WorkerStatus, variant: Variant, resident: Resident) -> Resident:
    """Return what a worker holds with its fault, if it is not as it was ordered."""
    details = roster.details_of(variant)
    trained = None if details is None else details.trained_context
    fault = fault_of(
        resident,
        on_gpu=computes_on_gpu(status.devices) and uses_gpus(status.engine),
        ordered_context=None if trained is None else roster.context_on(status, variant),
        may_spill="num_gpu" in {**dict(variant.options), **(details.options if details else {})},
    )
    return replace(resident, fault=fault)


def _variant_held(roster: Roster, status: WorkerStatus, listed: str, resident: Resident) -> Variant:
    """Lists tell a context and no other option: what was loaded there last goes before what fits."""
    digest = roster.weights_of(listed)
    known = [row.variant for row in roster.catalogues.get(status.worker, {}).values()]
    candidates = [v for v in (*known, *roster.passed) if v.digest == digest]
    before = roster.held.get(instance_of(status), {}).get(digest)
    if before is not None:
        candidates.insert(0, before.variant)
    fitting = (v for v in candidates if roster.context_on(status, v) == resident.context_length)
    found = next(fitting, None if before is None else before.variant)
    return _stranger(roster, status, Variant(digest), resident) if found is None else found


def _stranger(roster: Roster, status: WorkerStatus, base: Variant, resident: Resident) -> Variant:
    """Return what a context that nobody here ordered makes of a model: no runner for our requests.

    What somebody else's worker gives a model unasked is not known, so there it is taken as it is.
    """
    remote = any(device.kind is DeviceKind.REMOTE for device in status.devices)
    if remote or not resident.context_length:
        return base
    variant = Variant(base.digest, (("num_ctx", resident.context_length),))
    return variant if roster.passed.admit(variant, roster.is_held) else base


def _view(roster: Roster, status: WorkerStatus) -> WorkerView:
    return WorkerView(
        instance=instance_of(status),
        ready=roster.is_ready(status) and instance_of(status) not in roster.tripped,
        num_parallel=status.num_parallel,
        max_loaded_models=status.max_loaded_models,
        max_queue=status.max_queue,
        keep_alive_s=status.keep_alive_s,
        memory_bytes=status.memory_bytes,
        device=device_of(status.devices),
        one_per_weights=one_per_weights(status.engine),
        dedicated=status.models is not None,
        servable=_servable(roster, status),
    )


def _servable(roster: Roster, status: WorkerStatus) -> dict[Variant, int]:
    rows = roster.allowed_rows(status).values()
    sizes = {row.variant.digest: row.size_bytes for row in rows}
    passed = [v for v in roster.passed if v.digest in sizes and runs(status, v)]
    variants = [*(row.variant for row in rows), *passed]
    return {v: _need_bytes(roster, v, sizes[v.digest], status) for v in variants}


def _need_bytes(roster: Roster, variant: Variant, size_bytes: int, status: WorkerStatus) -> int:
    details = roster.details_of(variant)
    return estimate(
        size_bytes=size_bytes,
        model_info=details.model_info if details is not None else {},
        context_length=roster.context_on(status, variant),
        slots=1 if roster.embeds(variant) else status.num_parallel,
    ).total_bytes
