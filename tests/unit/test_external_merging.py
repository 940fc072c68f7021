from __future__ import annotations

from gateway.external.health import USUAL, Answered, Failed, Health, step
from gateway.external.merging import NO_SUPERVISOR, merged, status_of
from supervisor.contract.config import ExternalWorker
from supervisor.contract.fleet import DeviceKind, FleetSnapshot, WorkerState, WorkerStatus, decode, encode

FAR = ExternalWorker.model_validate(
    {"name": "far", "url": "http://10.0.0.7:11434/", "memory": "20GiB", "num_parallel": 6, "models": ("a",)}
)
HERE = step(Health(), Answered("0.24.0"), 0.0, USUAL)[0]


def status(name: str) -> WorkerStatus:
    """Return an external worker's status under this name."""
    return status_of(FAR.model_copy(update={"name": name}), HERE, since_unix=1.0)


def snapshot(*names: str) -> FleetSnapshot:
    """Return what a supervisor would tell of workers with these names."""
    return FleetSnapshot(boot_id="b", generation=7, workers=tuple(map(status, names)))


def test_its_limits_are_the_files_and_its_device_is_its_address() -> None:
    """The rest was seen."""
    seen = status_of(FAR, HERE, since_unix=1.0)
    assert (seen.num_parallel, seen.memory_bytes, seen.models) == (6, 20 * 2**30, ("a",))
    assert (seen.state, seen.incarnation, seen.base_url) == (WorkerState.READY, 1, "http://10.0.0.7:11434")
    assert [(device.kind, device.label) for device in seen.devices] == [
        (DeviceKind.REMOTE, "http://10.0.0.7:11434")
    ]


def test_one_that_is_away_has_no_address_to_send_to() -> None:
    """And the reason of its absence."""
    away = step(HERE, Failed("refused", silent=False), 0.0, USUAL)[0]
    seen = status_of(FAR, away, since_unix=1.0)
    assert (seen.state, seen.base_url, seen.reason) == (WorkerState.BACKOFF, "", "refused")


def test_both_sources_make_one_snapshot() -> None:
    """The supervisor's boot and generation stay, own workers come first, and the wire can carry it."""
    fleet = merged(snapshot("gpu0", "gpu1"), [status("far")])
    assert fleet is not None
    assert [worker.worker for worker in fleet.snapshot.workers] == ["gpu0", "gpu1", "far"]
    assert (fleet.snapshot.boot_id, fleet.snapshot.generation, fleet.left_out) == ("b", 7, ())
    assert decode(encode(fleet.snapshot)) == fleet.snapshot


def test_half_a_fleet_is_none() -> None:
    """Until the supervisor has spoken; without one its place is taken by an empty word."""
    assert merged(None, [status("far")]) is None
    alone = merged(NO_SUPERVISOR, [status("far")])
    assert alone is not None
    assert [worker.worker for worker in alone.snapshot.workers] == ["far"]


def test_an_own_worker_keeps_its_name() -> None:
    """Leases and residency are kept by name, so two workers can never have the same."""
    fleet = merged(snapshot("gpu0"), [status("gpu0"), status("far")])
    assert fleet is not None
    assert [worker.worker for worker in fleet.snapshot.workers] == ["gpu0", "far"]
    assert fleet.left_out == ("gpu0",)
