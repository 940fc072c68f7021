from __future__ import annotations

from dataclasses import replace

from supervisor.core.pinning import MARKER, gateway_environment, worker_environment
from supervisor.host import keeper
from tests.support.fake_engine import fake_spec

SHELL = {
    "PATH": "/bin",
    "CUDA_VISIBLE_DEVICES": "3",
    "HIP_VISIBLE_DEVICES": "3",
    "ROCR_VISIBLE_DEVICES": "3",
    "GPU_DEVICE_ORDINAL": "3",
    "OLLAMA_HOST": "0.0.0.0",
    "LLAMA_ARG_CTX_SIZE": "1",
    "NOTIFY_SOCKET": "/run/notify",
}


def test_a_gpu_worker_sees_its_gpus_by_uuid_and_in_pci_order() -> None:
    """UUIDs survive a reboot that renumbers; the order makes indices those of nvidia-smi."""
    env = worker_environment(fake_spec("a", gpus=("GPU-1", "GPU-2")), {}, SHELL, boot_id="b")
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-1,GPU-2"
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert env["ROCR_VISIBLE_DEVICES"] == env["HIP_VISIBLE_DEVICES"] == "-1"


def test_an_amd_worker_sees_its_gpus_by_rocms_variable_and_none_of_nvidia() -> None:
    """HIP's variable counts among those that ROCm shows, so it must not stand there too."""
    spec = replace(fake_spec("a", gpus=("GPU-1f2e", "1")), gpu_vendor="amd")
    env = worker_environment(spec, {}, SHELL, boot_id="b")
    assert env["ROCR_VISIBLE_DEVICES"] == "GPU-1f2e,1"
    assert env["CUDA_VISIBLE_DEVICES"] == "-1"
    assert "HIP_VISIBLE_DEVICES" not in env


def test_a_cpu_worker_sees_no_gpu() -> None:
    """Not even where the shell shows one."""
    env = worker_environment(fake_spec("a"), {}, SHELL, boot_id="b")
    assert env["CUDA_VISIBLE_DEVICES"] == "-1"


def test_what_steers_engines_in_the_shell_stays_there() -> None:
    """Workers are configured in the file and nowhere else."""
    env = worker_environment(fake_spec("a"), {"OLLAMA_KEEP_ALIVE": "-1s"}, SHELL, boot_id="b")
    pinning = {"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"}
    assert set(env) == {"PATH", "OLLAMA_KEEP_ALIVE", MARKER} | pinning


def test_the_users_variables_stand_above_everything_but_the_marker() -> None:
    """The file has the last word about the engine; what finds our processes is not for sale."""
    mine = {"OLLAMA_KEEP_ALIVE": "5m", "CUDA_VISIBLE_DEVICES": "0", MARKER: "gone"}
    env = worker_environment(fake_spec("a", env=mine), {"OLLAMA_KEEP_ALIVE": "-1s"}, SHELL, boot_id="b")
    assert env["OLLAMA_KEEP_ALIVE"] == "5m"
    assert env["CUDA_VISIBLE_DEVICES"] == "0"
    assert env[MARKER] == "b/a"


def test_the_gateway_keeps_the_shell_but_not_what_systemd_meant_for_us() -> None:
    """It is our own program, but READY=1 is the supervisor's to say."""
    env = gateway_environment(SHELL, boot_id="b", name="g")
    assert env["OLLAMA_HOST"] == "0.0.0.0"
    assert "NOTIFY_SOCKET" not in env
    assert env[MARKER] == "b/g"


def test_the_keeper_looks_for_the_same_marker() -> None:
    """It stands alone and has to repeat the name."""
    assert f"{MARKER}=".encode() == keeper.MARKER
