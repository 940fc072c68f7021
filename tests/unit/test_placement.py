from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from supervisor.contract.fleet import Device, DeviceKind
from supervisor.core.devices import share_cores
from supervisor.core.machine import Gpu, Machine, core_list
from supervisor.core.placement import PlacementError, place
from supervisor.core.spec import WorkerSpec
from tests.support.machines import PATHS, a_config, a_gpu, a_machine, a_mig_instance, an_amd_gpu

GIB = 2**30
ON_GPUS = {"worker_defaults": {"engine": "embedded"}}


def placed(
    tree: Mapping[str, object], machine: Machine, *, engines: Collection[str] = ("embedded",)
) -> dict[str, WorkerSpec]:
    """Return the workers by name."""
    return {spec.name: spec for spec in place(a_config(tree), machine, paths=PATHS, engines=engines)}


def refused(
    tree: Mapping[str, object], machine: Machine, *, engines: Collection[str] = ("embedded",)
) -> list[str]:
    """Return the mistakes."""
    with pytest.raises(PlacementError) as caught:
        placed(tree, machine, engines=engines)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_auto_makes_one_worker_for_each_gpu() -> None:
    """Pinned by UUID, which survives a reboot that renumbers."""
    workers = placed(ON_GPUS, a_machine(gpus=2))
    assert {name: spec.gpu_uuids for name, spec in workers.items()} == {
        "gpu0": ("GPU-0",),
        "gpu1": ("GPU-1",),
    }
    assert workers["gpu1"].devices == (Device(kind=DeviceKind.GPU, id="GPU-1", label="GPU 1 NVIDIA L4"),)
    assert workers["gpu1"].cpu_cores == ()


def test_auto_without_gpus_makes_cpu_workers_on_cores_of_their_own() -> None:
    """Two runners on the same cores would slow each other down."""
    workers = placed({"cpu_workers": 3}, a_machine(cores=(0, 1, 2, 3, 8, 9, 10)))
    assert {name: spec.cpu_cores for name, spec in workers.items()} == {
        "cpu0": (0, 1),
        "cpu1": (2, 3),
        "cpu2": (8, 9, 10),
    }
    assert workers["cpu2"].devices == (Device(kind=DeviceKind.CPU, id="8-10", label="CPU 8-10"),)


def test_more_cpu_workers_than_cores_is_refused_with_the_numbers() -> None:
    """Nothing is clamped in silence; the key is the one that says how many."""
    reason = "3 CPU workers need a core each, but this process may use 2: write fewer"
    assert refused({"cpu_workers": 3}, a_machine(cores=(4, 5))) == [f"cpu_workers: {reason}"]
    listed = {"workers": [{"name": name} for name in "abc"]}
    assert refused(listed, a_machine(cores=(4, 5))) == [f"workers: {reason}"]


def test_gpus_are_named_by_index_or_uuid_and_may_be_shared() -> None:
    """One GPU can carry a chat instance and an embedding instance, and one worker several GPUs."""
    tree = ON_GPUS | {
        "workers": [
            {"name": "chat", "gpus": [0]},
            {"name": "embed", "gpus": ["GPU-0"], "models": ["nomic-embed-text"]},
            {"name": "big", "gpus": [2, 1]},
            {"name": "slow"},
        ]
    }
    workers = placed(tree, a_machine(gpus=3))
    assert [spec.gpu_uuids for spec in workers.values()] == [("GPU-0",), ("GPU-0",), ("GPU-2", "GPU-1"), ()]
    assert workers["embed"].models == ("nomic-embed-text",)
    assert workers["chat"].models is None
    assert workers["slow"].cpu_cores == tuple(range(8))


def test_gpus_that_are_not_there_are_refused_with_those_that_are() -> None:
    """All of them at once, each with its key."""
    tree = ON_GPUS | {
        "workers": [{"name": "a", "gpus": [0, 7]}, {"name": "b", "gpus": ["GPU-x", 0, "GPU-0"]}]
    }
    known = "this machine has 0 (GPU-0, NVIDIA L4)"
    assert refused(tree, a_machine(gpus=1)) == [
        f"workers[0].gpus[1]: there is no GPU 7: {known}",
        f"workers[1].gpus[0]: there is no GPU GPU-x: {known}",
        "workers[1].gpus[2]: GPU 0 (GPU-0) is listed twice: name it once",
    ]
    assert "leave gpus out to compute on the CPU" in refused(tree, a_machine())[0]


def with_gpus(*gpus: Gpu) -> Machine:
    """Return a machine with these GPUs."""
    return replace(a_machine(), gpus=gpus)


def test_auto_makes_one_worker_for_each_instance_of_a_split_gpu() -> None:
    """Each with its own memory, pinned by its own UUID."""
    workers = placed(ON_GPUS, with_gpus(a_gpu(0), a_mig_instance(1, 0), a_mig_instance(1, 2, gib=20)))
    assert {name: (spec.gpu_uuids, spec.memory_bytes) for name, spec in workers.items()} == {
        "gpu0": (("GPU-0",), 24 * GIB * 92 // 100),
        "gpu1-mig0": (("MIG-1-0",), 9 * GIB),
        "gpu1-mig2": (("MIG-1-2",), 20 * GIB * 92 // 100),
    }
    assert workers["gpu1-mig2"].devices[0].label == "GPU 1 MIG 2 NVIDIA A100 MIG 1g.10gb"


def test_auto_leaves_the_graphics_unit_of_a_cpu_alone() -> None:
    """It shows as a GPU of 512 MiB, and would fit nothing."""
    assert list(placed(ON_GPUS, with_gpus(a_gpu(0), an_amd_gpu(1, gib=0.5)))) == ["gpu0"]
    assert list(placed(ON_GPUS, with_gpus(an_amd_gpu(0, gib=0.5)))) == ["cpu0", "cpu1"]


def test_a_split_gpu_is_named_by_its_instances() -> None:
    """Its index says too little, and CUDA takes one instance a process."""
    machine = with_gpus(a_gpu(0), a_mig_instance(1, 0), a_mig_instance(1, 1))
    tree = ON_GPUS | {
        "workers": [
            {"name": "a", "gpus": [1]},
            {"name": "b", "gpus": ["MIG-1-0", "MIG-1-1"]},
            {"name": "c", "gpus": ["GPU-9"]},
        ]
    }
    assert refused(tree, machine) == [
        "workers[0].gpus[0]: GPU 1 is split into MIG instances: name one by its UUID (MIG-1-0, MIG-1-1)",
        "workers[1].gpus[1]: CUDA gives a process one MIG instance and nothing beside it: name only that",
        (
            "workers[2].gpus[0]: there is no GPU GPU-9: this machine has 0 (GPU-0, NVIDIA L4), "
            "1 MIG 0 (MIG-1-0, NVIDIA A100 MIG 1g.10gb), 1 MIG 1 (MIG-1-1, NVIDIA A100 MIG 1g.10gb)"
        ),
    ]


def test_a_worker_computes_on_gpus_of_one_maker() -> None:
    """No engine adds CUDA and ROCm up; workers of both makers stand side by side."""
    machine = with_gpus(a_gpu(0), an_amd_gpu(1), an_amd_gpu(2))
    tree = ON_GPUS | {"workers": [{"name": "a", "gpus": [0, 1]}]}
    assert refused(tree, machine) == [
        "workers[0].gpus[1]: GPU 1 is of AMD and GPU 0 of NVIDIA: a worker computes on GPUs of one maker"
    ]
    good = ON_GPUS | {"workers": [{"name": "a", "gpus": [0]}, {"name": "b", "gpus": [1, 2]}, {"name": "c"}]}
    assert [spec.gpu_vendor for spec in placed(good, machine).values()] == ["nvidia", "amd", None]


def test_workers_with_cores_leave_the_others_the_rest() -> None:
    """So that an embedding instance can be given two cores, and the chat the other six."""
    tree = {"workers": [{"name": "a"}, {"name": "b", "cores": "0,6-7"}, {"name": "c"}]}
    workers = placed(tree, a_machine())
    assert {name: spec.cpu_cores for name, spec in workers.items()} == {
        "a": (1, 2),
        "b": (0, 6, 7),
        "c": (3, 4, 5),
    }


def test_cores_that_are_not_there_or_twice_are_refused_with_the_numbers() -> None:
    """Each at its key."""
    tree = {"workers": [{"name": "a", "cores": "2-9"}, {"name": "b", "cores": "0-3"}]}
    assert refused(tree, a_machine()) == [
        "workers[0].cores: this process may not use 8-9: it has 0-7",
        "workers[1].cores: 2-3 belongs to a already: each CPU worker needs cores of its own",
    ]
    none_left = {"workers": [{"name": "a", "cores": "0-7"}, {"name": "b"}]}
    assert refused(none_left, a_machine()) == [
        (
            "workers: 1 CPU workers need a core each, but this process may use 0 "
            "(0-7 taken by workers with cores): write fewer"
        )
    ]


def test_shares_sizes_and_auto_can_stand_side_by_side_on_two_gpus() -> None:
    """A worker over both takes of each in proportion; auto gets what is left of its own GPU."""
    tree = ON_GPUS | {
        "workers": [
            {"name": "both", "gpus": [0, 1], "memory": "50%"},
            {"name": "sized", "gpus": [0], "memory": "4GiB"},
            {"name": "rest", "gpus": [0]},
            {"name": "other", "gpus": [1]},
        ]
    }
    workers = placed(tree, with_gpus(a_gpu(0, gib=24), a_gpu(1, gib=48)))
    assert {name: spec.memory_bytes for name, spec in workers.items()} == {
        "both": 36 * GIB,
        "sized": 4 * GIB,
        "rest": 24 * GIB * 92 // 100 - 16 * GIB,
        "other": 48 * GIB * 92 // 100 - 24 * GIB,
    }


def test_slots_follow_the_memory_where_nothing_is_said() -> None:
    """A small memory is for weights; a number in the file wins on any."""
    tree = ON_GPUS | {
        "workers": [
            {"name": "small", "gpus": [0], "memory": "4095MiB"},
            {"name": "large", "gpus": [0], "memory": "4GiB"},
            {"name": "said", "gpus": [0], "memory": "1GiB", "num_parallel": 2},
        ]
    }
    workers = placed(tree, a_machine(gpus=1))
    assert {name: spec.num_parallel for name, spec in workers.items()} == {"small": 1, "large": 4, "said": 2}


def test_what_only_ollama_heeds_is_refused_where_no_ollama_sees_it() -> None:
    """Nothing is ignored in silence; beside one Ollama worker the default has a meaning."""
    tree: dict[str, object] = {
        "worker_defaults": {"engine": "embedded", "flash_attention": True},
        "workers": [{"name": "a", "kv_cache_type": "f16"}],
    }
    assert refused(tree, a_machine()) == [
        (
            "worker_defaults.flash_attention: is for Ollama, and all workers are embedded: "
            "remove it, or write engine: ollama"
        ),
        (
            "workers[0].kv_cache_type: is for Ollama, and this worker is embedded: "
            "remove it, or write engine: ollama"
        ),
    ]
    tree["workers"] = [{"name": "a"}, {"name": "b", "engine": "ollama"}]
    machine = a_machine(ollama_path="/bin/ollama")
    assert placed(tree, machine, engines=BOTH)["b"].flash_attention is True


def test_an_external_worker_cannot_be_called_as_auto_calls_one() -> None:
    """Names are keys everywhere."""
    other = {"name": "cpu1", "url": "http://10.0.0.7:1", "memory": "1GiB"}
    assert refused({"external": [other]}, a_machine()) == [
        "external[0].name: workers: auto gives the name cpu1 to a worker of this machine: choose another"
    ]


def test_auto_memory_keeps_a_reserve_on_each_gpu() -> None:
    """8 % of 24 GiB is more than 1 GiB."""
    tree = ON_GPUS | {"workers": [{"name": "a", "gpus": [0]}, {"name": "b", "gpus": [1, 2]}]}
    workers = placed(tree, a_machine(gpus=3))
    assert workers["a"].memory_bytes == 24 * GIB * 92 // 100
    assert workers["b"].memory_bytes == 2 * (24 * GIB * 92 // 100)


def test_workers_that_say_auto_share_what_the_others_leave() -> None:
    """A claim comes first, the rest is split evenly."""
    tree = ON_GPUS | {
        "workers": [
            {"name": "a", "gpus": [0]},
            {"name": "b", "gpus": [0], "memory": "25%"},
            {"name": "c", "gpus": [0]},
        ]
    }
    workers = placed(tree, a_machine(gpus=1))
    assert workers["b"].memory_bytes == 6 * GIB
    assert workers["a"].memory_bytes == workers["c"].memory_bytes == (24 * GIB * 92 // 100 - 6 * GIB) // 2


def test_cpu_workers_share_most_of_the_ram() -> None:
    """The rest is for the system and the file cache."""
    workers = placed({"cpu_workers": 4}, a_machine(ram_gib=10))
    assert [spec.memory_bytes for spec in workers.values()] == [2 * GIB] * 4
    own = placed({"worker_defaults": {"memory": "1.5GiB"}}, a_machine(ram_gib=10))
    assert [spec.memory_bytes for spec in own.values()] == [GIB * 3 // 2] * 2


@pytest.mark.parametrize(
    ("workers", "mistake"),
    [
        (
            [{"name": "a", "gpus": [0], "memory": "30GiB"}],
            "workers[0].memory: GPU 0 (NVIDIA L4) has 24.0 GiB, but a claims 30.0 GiB: claim less",
        ),
        (
            [{"name": "a", "gpus": [0], "memory": "13GiB"}, {"name": "b", "gpus": [0], "memory": "50%"}],
            (
                "workers[1].memory: GPU 0 (NVIDIA L4) has 24.0 GiB, but 25.0 GiB are claimed "
                "(a 13.0 GiB, b 12.0 GiB): claim less"
            ),
        ),
        (
            [{"name": "a", "gpus": [0], "memory": "23GiB"}, {"name": "b", "gpus": [0]}],
            (
                "workers[0].memory: nothing is left of GPU 0 (NVIDIA L4) for b (memory: auto): it has "
                "24.0 GiB with 1.9 GiB kept free and a claims 23.0 GiB: write a size or claim less"
            ),
        ),
        (
            [{"name": "a", "memory": "65GiB"}],
            "workers[0].memory: RAM has 64.0 GiB, but a claims 65.0 GiB: claim less",
        ),
    ],
)
def test_more_memory_than_there_is_is_refused_with_the_numbers(
    workers: list[dict[str, object]], mistake: str
) -> None:
    """At the key of the one who claims."""
    assert refused(ON_GPUS | {"workers": workers}, a_machine(gpus=1)) == [mistake]


def test_a_limit_of_the_worker_wins_over_the_default() -> None:
    """`keep_alive: -1` too, although for ever is None."""
    tree = {
        "worker_defaults": {
            "num_parallel": 2,
            "max_queue": 7,
            "keep_alive": "1m",
            "env": {"A": "1", "B": "1"},
        },
        "workers": [
            {"name": "a", "num_parallel": 9, "keep_alive": -1, "env": {"B": "2"}},
            {"name": "b", "context_length": 64, "max_loaded_models": 1, "keep_alive": 0},
            {"name": "c"},
        ],
    }
    a, b, c = placed(tree, a_machine()).values()
    assert (a.num_parallel, b.num_parallel) == (9, 2)
    assert (a.max_queue, a.context_length, b.context_length) == (7, 4096, 64)
    assert (a.max_loaded_models, b.max_loaded_models) == (3, 1)
    assert (a.keep_alive_s, b.keep_alive_s, c.keep_alive_s) == (None, 0.0, 60.0)
    assert (a.env, b.env) == ({"A": "1", "B": "2"}, {"A": "1", "B": "1"})
    assert (a.store, a.gguf_dir) == (PATHS.store, PATHS.gguf_dir)


BOTH = ("embedded", "ollama")


@pytest.mark.parametrize(
    ("gpus", "ollama_path", "engines", "chosen"),
    [
        (0, None, BOTH, "embedded"),
        (0, "/bin/ollama", BOTH, "ollama"),
        (1, "/bin/ollama", BOTH, "ollama"),
        (0, "/bin/ollama", ("embedded",), "embedded"),
    ],
)
def test_auto_takes_ollama_where_it_is_and_else_the_cpu(
    gpus: int, ollama_path: str | None, engines: tuple[str, ...], chosen: str
) -> None:
    """An engine that this Corral does not have is not taken, even if its binary is there."""
    workers = placed({}, a_machine(gpus=gpus, ollama_path=ollama_path), engines=engines)
    assert {spec.engine for spec in workers.values()} == {chosen}


@pytest.mark.parametrize(
    ("wanted", "engines", "mistake"),
    [
        (
            "auto",
            BOTH,
            (
                "auto finds no engine for GPUs (no ollama binary is in PATH, and the embedded engine's wheel "
                "computes on the CPU): install Ollama (https://ollama.com/download), "
                "or write engine: embedded, or workers without gpus"
            ),
        ),
        (
            "auto",
            ("embedded",),
            (
                "auto finds no engine for GPUs (this Corral has no engine ollama, and the embedded engine's "
                "wheel computes on the CPU): write engine: embedded, or workers without gpus"
            ),
        ),
        ("ollama", ("embedded",), "this Corral has no engine ollama: write one of embedded"),
        (
            "ollama",
            BOTH,
            (
                "no ollama binary is in PATH: install Ollama (https://ollama.com/download), or write "
                "engine: embedded to compute on the CPU"
            ),
        ),
    ],
)
def test_an_engine_that_is_not_there_is_refused_once_with_the_remedy(
    wanted: str, engines: tuple[str, ...], mistake: str
) -> None:
    """Once, and not for each of eight GPUs."""
    tree = {"worker_defaults": {"engine": wanted}}
    assert refused(tree, a_machine(gpus=8), engines=engines) == [f"worker_defaults.engine: {mistake}"]


def test_a_cpu_worker_beside_gpus_gets_the_embedded_engine() -> None:
    """What has no GPU needs no engine for GPUs."""
    assert placed({"workers": [{"name": "a"}]}, a_machine(gpus=2))["a"].engine == "embedded"


def test_all_mistakes_are_found_at_once() -> None:
    """Of every kind, each with its key."""
    tree = {
        "workers": [
            {"name": "a", "gpus": [5], "engine": "embedded"},
            {"name": "b", "gpus": [0], "engine": "ollama", "memory": "99GiB"},
            {"name": "c", "memory": "99GiB"},
            {"name": "d"},
        ]
    }
    keys = [reason.partition(":")[0] for reason in refused(tree, a_machine(gpus=1, cores=(0,)))]
    assert keys == [
        "workers[0].gpus[0]",
        "workers",
        "workers[2].memory",
        "workers[1].memory",
        "workers[1].engine",
    ]


def test_cores_are_shared_as_evenly_as_they_can_be() -> None:
    """In runs, because neighbours share caches."""
    assert share_cores((3, 1, 0, 2, 7), 2) == ((0, 1), (2, 3, 7))
    assert share_cores((0,), 0) == ()


@pytest.mark.parametrize(
    ("cores", "text"), [((), ""), ((3,), "3"), ((0, 1, 2), "0-2"), ((8, 0, 1, 3), "0-1,3,8")]
)
def test_core_lists_are_written_as_the_kernel_writes_them(cores: tuple[int, ...], text: str) -> None:
    """So that they can be handed to taskset and cgroups."""
    assert core_list(cores) == text
