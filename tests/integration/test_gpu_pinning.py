"""A machine with four GPUs, as far as NVIDIA's library says: the real supervisor, real workers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.corral import COMMAND, corral, plain_environment, write_config
from tests.support.fake_nvml import build_fake_nvml, environment, uuid_of


@pytest.fixture(scope="module")
def four_gpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which NVML shows four GPUs."""
    library = build_fake_nvml(tmp_path_factory.mktemp("nvml"))
    return plain_environment() | environment(library, gpus=4)


def environment_of(pid: int) -> dict[str, str]:
    """Return what a process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(pair.partition("=")[::2] for pair in pairs if pair)


def test_each_worker_sees_its_own_gpu_and_nothing_else(tmp_path: Path, four_gpus: dict[str, str]) -> None:
    """One worker per GPU, each with its own UUID, in PCI order; the operator's shell adds nothing."""
    shell = four_gpus | {"CUDA_VISIBLE_DEVICES": "3", "OLLAMA_NUM_PARALLEL": "9"}
    with corral(tmp_path, environ=shell) as running:
        workers = running.ps()["workers"]
        assert [worker["devices"][0]["id"] for worker in workers] == [uuid_of(n) for n in range(4)]
        for number, worker in enumerate(workers):
            seen = environment_of(worker["pid"])
            assert seen["CUDA_VISIBLE_DEVICES"] == uuid_of(number)
            assert seen["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
            assert seen["OLLAMA_NUM_PARALLEL"] == "4"


def test_two_workers_can_share_a_gpu_each_with_limits_of_its_own(
    tmp_path: Path, four_gpus: dict[str, str]
) -> None:
    """A chat instance with four slots and an embedding instance beside it, on one GPU."""
    workers = [
        {"name": "chat", "gpus": [1], "num_parallel": 4},
        {"name": "embed", "gpus": [uuid_of(1)], "num_parallel": 1, "models": ["embed"]},
    ]
    with corral(tmp_path, environ=four_gpus, workers=workers) as running:
        chat, embed = running.ps()["workers"]
    assert (chat["num_parallel"], embed["num_parallel"], embed["models"]) == (4, 1, ["embed"])
    assert chat["devices"] == embed["devices"]
    assert chat["memory_bytes"] == embed["memory_bytes"]


def test_gpus_without_an_engine_for_them_are_told_with_the_remedy(
    tmp_path: Path, four_gpus: dict[str, str]
) -> None:
    """The embedded engine would compute on the CPU, so nothing is started without being asked for."""
    file = write_config(tmp_path, worker_defaults={"engine": "auto"})
    ended = subprocess.run(
        [COMMAND, "up", "-c", str(file)],
        env=four_gpus | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 2
    assert "no ollama binary is in PATH" in ended.stderr
    assert "engine: embedded" in ended.stderr


def test_gpu_that_is_not_there_is_named(tmp_path: Path, four_gpus: dict[str, str]) -> None:
    """Exit code 2, file, line and key, and the GPUs there are."""
    file = write_config(tmp_path, workers=[{"name": "a", "gpus": [7]}])
    ended = subprocess.run(
        [COMMAND, "check", str(file)], env=four_gpus, capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == 2
    assert "there is no GPU 7" in ended.stderr
    assert uuid_of(3) in ended.stderr
