"""`corral install --systemd` on directories of the test's, and what systemd's own tools say of its files."""

from __future__ import annotations

import json
import shutil
import subprocess
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from supervisor.commands.install import run
from tests.support.corral import COMMAND
from tests.support.supervisor import PATIENCE_S, ROOT

UNIT = "etc/systemd/system/corral.service"
CONFIG = "etc/corral/corral.yaml"
EXPOSURE = 25
"""Tenths; the issue's promise."""


def install(*arguments: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    argv = [COMMAND, "install", "--systemd", *map(str, arguments)]
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False, stdin=subprocess.DEVNULL, **how
    )


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; skip where there is none."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say, not even a warning."""
    assert install("--root", tmp_path).returncode == 0
    units = tmp_path / "etc/systemd/system"
    verified = analyze("verify", units / "corral.service", units / "corral.socket")
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", ["installed", "shipped"])
def test_little_is_exposed(tmp_path: Path, unit: str) -> None:
    """At most 2.5, measured offline as packagers do."""
    assert install("--root", tmp_path).returncode == 0
    file = tmp_path / UNIT if unit == "installed" else ROOT / "deploy/systemd/corral.service"
    measured = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", file)
    assert measured.returncode == 0, measured.stdout


def test_everything_is_written_and_what_is_next_is_said(tmp_path: Path) -> None:
    """Files that everybody may read, a configuration that `corral check` takes, no half-written rest."""
    done = install("--root", tmp_path)
    assert done.returncode == 0, done.stderr
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file())
    assert files == [
        "etc/corral/corral.yaml",
        "etc/systemd/system/corral.service",
        "etc/systemd/system/corral.socket",
        "etc/sysusers.d/corral.conf",
        "etc/tmpfiles.d/corral.conf",
    ]
    assert {oct(file.stat().st_mode & 0o777) for file in tmp_path.rglob("*.*") if file.is_file()} == {"0o644"}
    assert "systemctl enable --now corral" in done.stdout
    checked = subprocess.run([COMMAND, "check", tmp_path / CONFIG], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_what_could_not_be_written_is_not_said_to_be(tmp_path: Path) -> None:
    """Nor what is next: it would start a service that is not there."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/sysusers.d").symlink_to("nowhere")
    done = install("--root", tmp_path)
    assert done.returncode == 1
    assert "\nnot written: /etc/sysusers.d/corral.conf\nwritten: /etc/tmpfiles.d" in done.stdout
    assert "next:" not in done.stdout
    assert f"{tmp_path}/etc/sysusers.d/corral.conf cannot be written: " in done.stderr


def test_the_running_environment_is_what_is_started(tmp_path: Path) -> None:
    """The unit names the command that wrote it."""
    install("--root", tmp_path)
    assert f"ExecStart={COMMAND} up --config /etc/corral/corral.yaml\n" in (tmp_path / UNIT).read_text()


def test_a_second_time_changes_nothing_of_the_operators(tmp_path: Path) -> None:
    """The configuration and drop-ins stay, letter for letter; a changed unit is ours again."""
    install("--root", tmp_path)
    drop_in = tmp_path / f"{UNIT}.d/own.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nNice=5\n")
    (tmp_path / CONFIG).write_text("listen: 127.0.0.1:9999\n")
    unit = (tmp_path / UNIT).read_text()
    (tmp_path / UNIT).write_text("changed")
    done = install("--root", tmp_path)
    assert "kept as it is: /etc/corral/corral.yaml" in done.stdout
    assert "replaced: /etc/systemd/system/corral.service" in done.stdout
    assert drop_in.read_text() == "[Service]\nNice=5\n"
    assert (tmp_path / CONFIG).read_text() == "listen: 127.0.0.1:9999\n"
    assert (tmp_path / UNIT).read_text() == unit
    assert "ListenStream=127.0.0.1:9999\n" in (tmp_path / "etc/systemd/system/corral.socket").read_text()


def test_a_store_of_the_configuration_can_be_written_to(tmp_path: Path) -> None:
    """The file system is read-only for the service but for what the file says."""
    (tmp_path / CONFIG).parent.mkdir(parents=True)
    (tmp_path / CONFIG).write_text("store: /data/models\nruntime_dir: /run/other\n")
    assert install("--root", tmp_path).returncode == 0
    unit = (tmp_path / UNIT).read_text()
    assert "\nReadWritePaths=-/data/models\n" in unit
    assert " reload --runtime-dir /run/other\n" in unit


def test_mistakes_of_the_configuration_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    """The unit depends on it."""
    (tmp_path / CONFIG).parent.mkdir(parents=True)
    (tmp_path / CONFIG).write_text("stoer: /data\n")
    done = install("--root", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("/etc/corral/corral.yaml:1: stoer: ")
    assert not (tmp_path / UNIT).exists()


def test_a_rehearsal_writes_nothing_and_shows_all(tmp_path: Path) -> None:
    """For people, and as JSON with the texts."""
    done = install("--root", tmp_path, "--dry-run")
    assert "write: /etc/systemd/system/corral.service" in done.stdout
    assert "Type=notify" in done.stdout
    told = json.loads(install("--root", tmp_path, "--dry-run", "--json").stdout)
    assert {file["action"] for file in told["files"]} == {"write"}
    assert told["next"]
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Before anything is written."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/systemd").write_text("no directory")
    done = install("--root", tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}/{UNIT} cannot be read: Not a directory\n"


def test_without_root_it_says_how(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is looked at."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    args = Namespace(root=Path("/"), dry_run=False, json=False)
    assert run(args) == 2
    told = capsys.readouterr().err
    assert f"run `sudo {COMMAND} install --systemd`" in told
    assert "--dry-run" in told
