from __future__ import annotations

import json
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest

from supervisor.commands import check
from supervisor.core.machine import Machine
from supervisor.engines.embedded.engine import EmbeddedEngine
from tests.support.machines import a_machine


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests run on a machine with four cores and no GPU, whatever they run on."""

    def read() -> Machine:
        return a_machine(cores=range(4), ram_gib=10)

    monkeypatch.setattr("supervisor.preflight.read_machine", read)
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("RUNTIME_DIRECTORY", "XDG_DATA_HOME", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")


def run_check(*arguments: str) -> int:
    """Run the command with arguments and return its exit code."""
    parser = ArgumentParser()
    check.add_arguments(parser)
    return check.run(parser.parse_args(arguments))


def test_a_valid_file_shows_the_workers_it_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And where things will lie."""
    file = tmp_path / "c.yaml"
    file.write_text("workers: [{name: chat, models: ['a', 'b:q4']}, {name: rest, keep_alive: -1}]\n")
    assert run_check(str(file)) == 0
    out = capsys.readouterr().out
    assert out.splitlines() == [
        f"{file}: valid, 2 workers on this machine",
        "",
        "WORKER  ENGINE    DEVICE   SLOTS  LOADED  QUEUE  CONTEXT  KEEP-ALIVE  MEMORY   MODELS",
        "chat    embedded  CPU 0-1  4      3       512    4096     5m          4.0 GiB  a, b:q4",
        "rest    embedded  CPU 2-3  4      3       512    4096     for ever    4.0 GiB  any",
        "",
        "listen       127.0.0.1:11434",
        "runtime_dir  /run/user/1/corral",
        "store        /home/me/.ollama/models",
        "gguf_dir     /home/me/.local/share/corral/models",
    ]


def test_the_same_is_there_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """With bytes and seconds instead of texts."""
    assert run_check("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"] == "the defaults"
    assert [worker["name"] for worker in found["workers"]] == ["cpu0", "cpu1"]
    assert found["workers"][1]["devices"] == [{"kind": "cpu", "id": "2-3", "label": "CPU 2-3"}]
    assert found["workers"][1]["keep_alive_s"] == 300


def test_every_mistake_of_the_file_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, and nothing else."""
    file = tmp_path / "c.yaml"
    file.write_text("cpu_workers: 0\nworkerz: auto\n")
    assert run_check(str(file)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"{file}:1: cpu_workers: must be at least 1, not 0\n"
        f"{file}:2: workerz: is not known here; did you mean workers?\n"
    )


def test_what_the_machine_lacks_has_its_line_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A GPU that is not there is a mistake in the file as it stands on this machine."""
    file = tmp_path / "c.yaml"
    file.write_text("workers:\n  - name: a\n    gpus:\n      - 3\n    engine: embedded\n")
    assert run_check(str(file), "--json") == 2
    (mistake,) = json.loads(capsys.readouterr().out)["mistakes"]
    assert (mistake["file"], mistake["line"], mistake["key"]) == (str(file), 4, "workers[0].gpus[0]")
    assert mistake["message"].startswith("there is no GPU 3: ")


def test_an_engine_that_is_not_installed_is_named_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is started."""
    monkeypatch.setattr(EmbeddedEngine, "missing", lambda _: "install it")
    assert run_check() == 2
    assert capsys.readouterr().err == "the defaults: worker_defaults.engine: install it\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "for ever"), (0, "0s"), (90, "90s"), (0.5, "0.5s"), (300, "5m"), (5400, "1h30m")],
)
def test_keep_alive_is_printed_as_people_write_it(seconds: float | None, text: str) -> None:
    """And as the file takes it."""
    assert check.keep_alive_text(seconds) == text


def corral(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command's entry in a process of its own."""
    program = "import sys; from supervisor.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_command_finds_its_subcommands_by_name(tmp_path: Path) -> None:
    """And passes their exit code on."""
    file = tmp_path / "c.yaml"
    file.write_text("workerz: auto\n")
    done = corral("check", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean workers?" in done.stderr


def test_help_lists_all_commands() -> None:
    """Without arguments too, but then it is a mistake."""
    assert (asked := corral("--help")).returncode == 0
    assert (bare := corral()).returncode == 2
    for name in ("check", "gateway", "ps", "up"):
        assert f"\n  {name} " in asked.stdout
        assert f"\n  {name} " in bare.stderr


def test_an_unknown_command_is_refused_with_those_there_are() -> None:
    """With a guess."""
    done = corral("chek")
    assert done.returncode == 2
    assert done.stderr == (
        "corral: there is no command 'chek'; did you mean check? Commands: check, gateway, ps, up\n"
    )


def test_the_version_is_that_of_the_distribution() -> None:
    """As pip shows it."""
    assert corral("--version").stdout.startswith("corral 0.")
