"""An engine whose workers are `fake_worker.py`, and specs for it. The spec's store names the behaviour."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from supervisor.contract.fleet import Device, DeviceKind
from supervisor.core.spec import WorkerSpec
from supervisor.engines.engine import Launch

WORKER = Path(__file__).with_name("fake_worker.py")
THIEF = Path(__file__).with_name("port_thief.py")


class FakeEngine:
    """Starts quickly and does what the behaviour says."""

    name = "fake"
    thieves: ClassVar[dict[str, subprocess.Popen[str]]] = {}
    ready_path = "/api/version"

    def missing(self) -> str | None:
        """Nothing is ever missing."""
        return None

    def launch(self, spec: WorkerSpec, *, port: int) -> Launch:
        """Return the fake worker with the spec's behaviours.

        Where they begin with `stolen`, a thief with the manners that follow takes the first one's port.
        """
        if "stolen" in spec.store and spec.name not in self.thieves:
            self.thieves[spec.name] = thief(port, *spec.store.split()[1:])
        argv = (sys.executable, "-I", "-S", str(WORKER), str(port), *spec.store.split())
        return Launch(argv=argv, env={"OLLAMA_NUM_PARALLEL": str(spec.num_parallel)})


def thief(port: int, *manners: str) -> subprocess.Popen[str]:
    """Take a port, in a process that ends with this one; return once it is taken."""
    pipe = subprocess.PIPE
    argv = (sys.executable, "-I", "-S", str(THIEF), str(port), *manners)
    process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def fake_spec(
    name: str,
    behaviour: str = "",
    *,
    gpus: tuple[str, ...] = (),
    cores: tuple[int, ...] = (),
    env: dict[str, str] | None = None,
) -> WorkerSpec:
    """Return a worker that behaves so."""
    return WorkerSpec(
        name=name,
        engine="fake",
        devices=tuple(Device(kind=DeviceKind.GPU, id=gpu, label=gpu) for gpu in gpus),
        gpu_uuids=gpus,
        gpu_vendor="nvidia" if gpus else None,
        cpu_cores=cores,
        num_parallel=4,
        max_loaded_models=3,
        max_queue=512,
        context_length=4096,
        keep_alive_s=300.0,
        memory_bytes=2**30,
        flash_attention=None,
        kv_cache_type=None,
        load_timeout_s=300.0,
        prunes=False,
        models=None,
        env=env or {},
        store=behaviour,
        gguf_dir="",
    )
