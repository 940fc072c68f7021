from __future__ import annotations

import json
import subprocess
import sys
from argparse import ArgumentParser
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from supervisor.commands import check
from supervisor.contract.json_schema import json_schema
from supervisor.core.machine import Machine
from supervisor.engines.embedded.engine import EmbeddedEngine
from tests.support.machines import a_machine, an_amd_gpu


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests run on a machine with four cores and no GPU, whatever they run on."""

    def read() -> Machine:
        return a_machine(cores=range(4), ram_gib=10)

    monkeypatch.setattr("supervisor.preflight.read_machine", read)
    monkeypatch.setattr("supervisor.preflight.find_other_ollamas", tuple)
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("RUNTIME_DIRECTORY", "XDG_DATA_HOME", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/me/.state")


def run_check(*arguments: str) -> int:
    """Run the command with arguments and return its exit code."""
    parser = ArgumentParser()
    check.add_arguments(parser)
    return check.run(parser.parse_args(arguments))


def test_a_valid_file_shows_the_workers_it_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And where things will lie."""
    file = tmp_path / "c.yaml"
    file.write_text(
        "workers: [{name: chat, models: ['a', 'b:q4'], num_parallel: 2}, {name: rest, keep_alive: -1}]\n"
    )
    assert run_check(str(file)) == 0
    out = capsys.readouterr().out
    assert out.splitlines() == [
        f"{file}: valid, 2 workers on this machine",
        "",
        "WORKER  ENGINE    DEVICE   SLOTS     LOADED  QUEUE  CONTEXT  KEEP-ALIVE  MEMORY   MODELS",
        "chat    embedded  CPU 0-1  2         3       512    4096     5m          4.0 GiB  a, b:q4",
        "rest    embedded  CPU 2-3  4 (auto)  3       512    4096     for ever    4.0 GiB  any",
        "",
        "listen       127.0.0.1:11434",
        "runtime_dir  /run/user/1/corral",
        "store        /home/me/.ollama/models",
        "gguf_dir     /home/me/.local/share/corral/models",
        "state_dir    /home/me/.state/corral",
    ]


@pytest.mark.parametrize("option", ["-c", "--config"])
def test_the_file_may_stand_behind_the_option_that_other_commands_take(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It means the same."""
    file = tmp_path / "c.yaml"
    file.write_text("workers: [{name: chat}]\n")
    assert run_check(option, str(file)) == 0
    assert capsys.readouterr().out.startswith(f"{file}: valid, 1 worker on this machine\n")


@pytest.mark.parametrize("arguments", [("a.yaml", "-c", "b.yaml"), ("-c", "b.yaml", "a.yaml")])
def test_two_files_are_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Neither is checked in silence while the other is meant."""
    with pytest.raises(SystemExit) as ended:
        run_check(*arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "FILE" in said
    assert "not allowed with argument" in said


def test_workers_that_somebody_else_runs_stand_in_the_same_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the limits of the file; there need be no others."""
    file = tmp_path / "c.yaml"
    file.write_text(
        "workers: []\nexternal: [{name: attic, url: 'http://10.0.0.7:1', memory: 22GiB, models: [a]}]\n"
    )
    assert run_check(str(file)) == 0
    assert capsys.readouterr().out.splitlines()[:4] == [
        f"{file}: valid, 0 workers on this machine, 1 external",
        "",
        "WORKER  ENGINE  DEVICE             SLOTS  LOADED  QUEUE  CONTEXT  KEEP-ALIVE  MEMORY    MODELS",
        "attic   ollama  http://10.0.0.7:1  1      1       512    4096     5m          22.0 GiB  a",
    ]


def test_a_pinned_model_whose_file_is_not_there_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no mistake: it may be pulled before the start."""
    file = tmp_path / "c.yaml"
    file.write_text(f"gguf_dir: {tmp_path}\nmodels:\n  a: {{pin: true}}\n")
    assert run_check(str(file)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"note: {file}:3: models.a: its file is not found: it cannot be loaded at start before it is pulled"
    )


def test_a_pinned_model_that_fits_nowhere_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the size of its file, and what its context takes."""
    with (tmp_path / "huge.gguf").open("wb") as huge:
        huge.truncate(9 * 2**30)
    file = tmp_path / "c.yaml"
    file.write_text(f"gguf_dir: {tmp_path}\nmodels:\n  huge:\n    pin: true\n")
    assert run_check(str(file)) == 2
    assert capsys.readouterr().err == (
        f"{file}:4: models.huge.pin: it needs 9.0 GiB (weights 9.0 GiB, context and buffers 18 MiB), but "
        "cpu0 has 4.0 GiB: shorten context_length, lower num_parallel, or give a worker more GPUs or memory\n"
    )


def test_a_model_that_no_worker_may_serve_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """External workers count."""
    file = tmp_path / "c.yaml"
    file.write_text("workers: [{name: a, models: [x]}]\nmodels: {y: {}}\n")
    assert run_check(str(file)) == 2
    assert ":2: models.y: no worker may serve it" in capsys.readouterr().err


def test_gpus_that_auto_leaves_alone_are_noted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody should have to guess why there is no worker."""
    small = replace(a_machine(), gpus=(an_amd_gpu(0, gib=0.5),))
    monkeypatch.setattr("supervisor.preflight.read_machine", lambda: small)
    assert run_check() == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "note: the defaults: workers: auto leaves GPU 0 (AMD gfx1100) alone, because it has 512 MiB"
    )


def test_the_schema_is_printed_for_editors(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the machine."""
    assert run_check("--schema") == 0
    assert json.loads(capsys.readouterr().out) == json_schema()


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
    for name in ("check", "gateway", "init", "ps", "up"):
        assert f"\n  {name} " in asked.stdout
        assert f"\n  {name} " in bare.stderr


def test_an_unknown_command_is_refused_with_those_there_are() -> None:
    """With a guess."""
    done = corral("chek")
    assert done.returncode == 2
    commands = ", ".join(sorted(entry.name for entry in entry_points(group="corral.commands")))
    guess = "corral: there is no command 'chek'; did you mean check?"
    assert done.stderr == f"{guess} Commands: {commands}\n"


def test_the_version_is_that_of_the_distribution() -> None:
    """As pip shows it."""
    assert corral("--version").stdout.startswith("corral 0.")
