from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from supervisor.contract.config import Config
from supervisor.contract.values import parse_cores
from supervisor.core.machine import Gpu, Machine
from supervisor.core.placement import PlacementError, place
from supervisor.core.spec import WorkerSpec
from tests.support.machines import PATHS, a_config, a_gpu, a_mig_instance, an_amd_gpu

ENGINES = ("embedded",)

memories = st.one_of(
    st.just("auto"),
    st.integers(1, 100).map(lambda percent: f"{percent}%"),
    st.integers(1, 30_000).map(lambda mib: f"{mib}MiB"),
)
makers: st.SearchStrategy[Callable[[int, float], Gpu]] = st.sampled_from(
    [
        lambda index, gib: a_gpu(index, gib=gib),
        lambda index, gib: an_amd_gpu(index, gib=gib),
        lambda index, gib: a_mig_instance(0, index, gib=gib),
    ]
)
core_lists = st.lists(st.integers(0, 63), min_size=1, max_size=4).map(lambda cores: ",".join(map(str, cores)))
machines = st.builds(
    Machine,
    gpus=st.lists(st.tuples(makers, st.floats(2, 200)), max_size=4).map(
        lambda found: tuple(make(index, gib) for index, (make, gib) in enumerate(found))
    ),
    cores=st.sets(st.integers(0, 63), min_size=1, max_size=16).map(tuple),
    ram_bytes=st.integers(2**28, 2**40),
    ollama_path=st.none(),
)


@st.composite
def workers_of(draw: st.DrawFn) -> list[dict[str, object]]:
    """Return a list of up to six workers on up to four GPUs, most of which fit."""
    gpu_sets = st.lists(st.integers(0, 3), unique=True, max_size=3)
    gpu_ids = st.one_of(gpu_sets, st.integers(0, 3).map(lambda number: [f"MIG-0-{number}"]))
    workers: list[dict[str, object]] = [
        {"name": f"w{number}", "gpus": draw(gpu_ids), "memory": draw(memories)}
        for number in range(draw(st.integers(1, 6)))
    ]
    for worker in workers:
        if not worker["gpus"] and draw(st.booleans()):
            worker["cores"] = draw(core_lists)
    return workers


configs = st.builds(
    lambda workers, cpu_workers, memory: a_config(
        {
            "workers": workers,
            "cpu_workers": cpu_workers,
            "worker_defaults": {"engine": "embedded", "memory": memory},
        }
    ),
    st.one_of(st.just("auto"), workers_of()),
    st.integers(1, 8),
    memories,
)


def _placed(config: Config, machine: Machine) -> tuple[WorkerSpec, ...]:
    try:
        return place(config, machine, paths=PATHS, engines=ENGINES)
    except PlacementError:
        return ()


@given(configs, machines)
def test_no_two_cpu_workers_share_a_core_and_those_without_a_wish_share_the_rest(
    config: Config, machine: Machine
) -> None:
    """As evenly as they can be; each that names its cores has exactly these."""
    wishes = {} if config.workers == "auto" else {own.name: own.cores for own in config.workers}
    on_cpu = [spec for spec in _placed(config, machine) if not spec.gpu_uuids]
    every = [core for spec in on_cpu for core in spec.cpu_cores]
    assert len(every) == len(set(every))
    assert set(every) <= set(machine.cores)
    for spec in on_cpu:
        wish = wishes.get(spec.name)
        assert wish is None or spec.cpu_cores == parse_cores(wish)
    shares = [len(spec.cpu_cores) for spec in on_cpu if wishes.get(spec.name) is None]
    if shares:
        assert sorted(every) == sorted(machine.cores)
        assert max(shares) - min(shares) <= 1


@given(configs, machines)
def test_a_worker_has_gpus_of_one_maker_or_one_instance_of_a_split_gpu(
    config: Config, machine: Machine
) -> None:
    """Nothing else can be shown to one process."""
    by_uuid = {gpu.uuid: gpu for gpu in machine.gpus}
    for spec in _placed(config, machine):
        gpus = [by_uuid[uuid] for uuid in spec.gpu_uuids]
        assert {gpu.vendor for gpu in gpus} == ({spec.gpu_vendor} if gpus else set())
        assert len(gpus) == 1 or all(gpu.mig is None for gpu in gpus)


@given(configs, machines)
def test_no_gpu_and_no_ram_is_promised_twice(config: Config, machine: Machine) -> None:
    """Over any set of GPUs, the workers that have only these get no more than they hold."""
    specs = _placed(config, machine)
    on_cpu = sum(spec.memory_bytes for spec in specs if not spec.gpu_uuids)
    assert on_cpu <= machine.ram_bytes
    for own in {frozenset(spec.gpu_uuids) for spec in specs}:
        inside = [spec for spec in specs if spec.gpu_uuids and own.issuperset(spec.gpu_uuids)]
        held = sum(gpu.memory_total_bytes for gpu in machine.gpus if gpu.uuid in own)
        assert sum(spec.memory_bytes for spec in inside) <= held


@given(configs, machines)
def test_every_worker_has_a_name_of_its_own_a_device_and_memory(config: Config, machine: Machine) -> None:
    """Its name is a key everywhere."""
    specs = _placed(config, machine)
    assert len({spec.name for spec in specs}) == len(specs)
    for spec in specs:
        assert spec.devices
        assert spec.memory_bytes > 0
        assert bool(spec.gpu_uuids) != bool(spec.cpu_cores)


@given(configs, machines)
def test_the_same_file_on_the_same_machine_means_the_same_workers(config: Config, machine: Machine) -> None:
    """Placement keeps nothing."""
    assert _placed(config, machine) == _placed(config, machine)
