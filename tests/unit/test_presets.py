from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.contract.config import Config, ExternalWorker
from supervisor.contract.contradictions import Server, models_without_workers
from supervisor.core.machine import Machine
from supervisor.core.placement import place
from supervisor.core.spec import WorkerSpec
from supervisor.host.config_file import load_source
from tests.support.machines import PATHS, a_machine

CONFIGS = Path(__file__).parents[2] / "configs"
ENGINES = ("embedded", "ollama")
BOX = a_machine(gpus=4, ollama_path="/usr/bin/ollama")
"""Four GPUs of 24 GiB, with Ollama."""


def preset(name: str) -> Config:
    """Return the configuration of a file that comes with Corral."""
    return load_source(CONFIGS / f"{name}.yaml").config


def placed(name: str, machine: Machine = BOX) -> dict[str, WorkerSpec]:
    """Return the workers of a preset by name."""
    return {spec.name: spec for spec in place(preset(name), machine, paths=PATHS, engines=ENGINES)}


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_preset_means_a_fleet_that_can_serve_its_models(file: Path) -> None:
    """On a box with four GPUs."""
    config = load_source(file).config
    fleet: list[WorkerSpec | ExternalWorker] = [*placed(file.stem).values(), *config.external]
    servers = [
        Server(name=worker.name, models=worker.models, max_loaded_models=worker.max_loaded_models)
        for worker in fleet
    ]
    assert servers
    assert models_without_workers(config, servers) == []


@pytest.mark.parametrize(
    ("name", "slots", "queue"), [("chat", 4, 128), ("agents", 6, 512), ("batch", 8, 1024)]
)
def test_a_preset_for_a_kind_of_load_has_a_worker_for_each_gpu(name: str, slots: int, queue: int) -> None:
    """With slots and queue for that load; and it serves a box without GPUs too."""
    workers = placed(name)
    assert list(workers) == ["gpu0", "gpu1", "gpu2", "gpu3"]
    assert {(spec.num_parallel, spec.max_queue) for spec in workers.values()} == {(slots, queue)}
    assert len(placed(name, a_machine())) == 2


def test_dedicated_workers_share_a_gpu_and_leave_a_reserve() -> None:
    """Each with slots of its own."""
    chat, embeddings = placed("dedicated", a_machine(gpus=1, ollama_path="/bin/ollama")).values()
    assert chat.gpu_uuids == embeddings.gpu_uuids == ("GPU-0",)
    assert chat.memory_bytes + embeddings.memory_bytes < BOX.gpus[0].memory_total_bytes * 92 // 100
    assert (chat.models, embeddings.models) == (None, ("nomic-embed-text",))


def test_the_large_worker_has_the_memory_of_two_gpus() -> None:
    """For a model that fits on neither."""
    workers = placed("multi-gpu")
    assert workers["large"].gpu_uuids == ("GPU-0", "GPU-1")
    assert workers["large"].memory_bytes == 2 * workers["small0"].memory_bytes
    assert workers["small1"].models is None


def test_the_external_preset_starts_nothing() -> None:
    """Whatever the machine has."""
    assert placed("external") == {}
    assert [worker.name for worker in preset("external").external] == ["container", "attic"]
