"""An Ollama that somebody else runs on this machine is named, with what to do about it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from supervisor.core.pinning import MARKER
from supervisor.host.other_ollamas import OtherOllama, find_other_ollamas
from supervisor.preflight import advice_on


@contextmanager
def serving(directory: Path, **environ: str) -> Iterator[int]:
    """Run a program whose command line is that of an Ollama."""
    program = directory / "ollama"
    shutil.copy(shutil.which("sh") or "/bin/sh", program)
    (directory / "serve").write_text("echo up; read -r never")
    with subprocess.Popen(
        [str(program), "serve"],
        cwd=directory,
        env=os.environ | environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid


def test_a_server_that_no_corral_runs_is_found(tmp_path: Path) -> None:
    """By its command line."""
    with serving(tmp_path) as pid:
        assert pid in [other.pid for other in find_other_ollamas() if not other.is_service]


def test_it_is_told_which_clients_it_takes(tmp_path: Path) -> None:
    """Those of the address that it was told, which need not be the port that Corral is to have."""
    with serving(tmp_path, OLLAMA_HOST="127.0.0.1:11500") as pid:
        (other,) = [other for other in find_other_ollamas() if other.pid == pid]
    assert "clients of 127.0.0.1:11500 reach it" in advice_on(other)


def test_the_workers_of_a_corral_are_no_others(tmp_path: Path) -> None:
    """They carry its mark."""
    with serving(tmp_path, **{MARKER: "boot/gpu0"}) as pid:
        assert pid not in [other.pid for other in find_other_ollamas()]


def test_the_advice_ends_what_it_names() -> None:
    """A service would be started again by systemd, so killing it is none."""
    assert "sudo systemctl disable --now ollama" in advice_on(OtherOllama(7, is_service=True))
    assert "kill 7" in advice_on(OtherOllama(7, is_service=False))
