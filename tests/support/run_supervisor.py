"""A real supervisor over fake workers and a fake gateway: `run_supervisor.py JSON`.

It has `directory`, `workers` (arguments of `fake_spec`) and optionally `policy` (of RestartPolicy),
`timings` (of Timings) and `gpu_silence_s`. Prints the URL for clients once everything is ready.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.app import Setup, run
from supervisor.contract.config import Config, LogConfig
from supervisor.contract.shell.log_setup import configure
from supervisor.core.backoff import RestartPolicy
from supervisor.core.spec import WorkerSpec
from supervisor.core.worker import Timings
from supervisor.host.directory import claim
from supervisor.host.listener import open_listener
from supervisor.host.pulse import Beat
from tests.support.fake_engine import FakeEngine, fake_spec

GATEWAY = Path(__file__).with_name("fake_gateway.py")


@dataclass(frozen=True)
class _Found:
    """The configuration of a test, which never changes."""

    workers: tuple[WorkerSpec, ...]
    config: Config = field(default_factory=Config)
    text: str = ""


def main(told_json: str) -> int:
    """Run as told until a signal comes."""
    told = json.loads(told_json)
    configure(LogConfig(format="json"))
    timings = Timings(**told.get("timings", {}))
    found = _Found(tuple(fake_spec(**worker) for worker in told["workers"]))
    setup = Setup(
        specs=found.workers,
        config=found.config,
        reread=lambda: found,
        engines={"fake": FakeEngine()},
        listener=open_listener("127.0.0.1:0"),
        directory=claim(Path(told["directory"])),
        config_file=None,
        gateway_argv=(sys.executable, "-I", "-S", str(GATEWAY)),
        worker_policy=RestartPolicy(**told.get("policy", {})),
        worker_timings=timings,
        gateway_timings=timings,
        gpu_interval_s=0.05,
        gpu_silence_s=told.get("gpu_silence_s", 30.0),
        gateway_beat=Beat(**told.get("beat", {})),
    )
    return run(setup, greet=lambda url: print(url, flush=True))  # noqa: T201 -- what the test waits for


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
