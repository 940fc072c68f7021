"""How commands find the Corral that runs, also while somebody edits its file."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path

import pytest

from gateway.commands import explain, models, ps, queue
from supervisor.commands import drain, restart, resume
from supervisor.contract.command import Command

COMMANDS: dict[str, tuple[Command, tuple[str, ...]]] = {
    "drain": (drain, ("a",)),
    "resume": (resume, ("a",)),
    "restart": (restart, ("a",)),
    "ps": (ps, ()),
    "queue": (queue, ()),
    "explain": (explain, ("x",)),
    "models": (models, ()),
}
every_command = pytest.mark.parametrize("name", COMMANDS)


def run(name: str, *arguments: str) -> int:
    """Run a command and return its exit code."""
    command, words = COMMANDS[name]
    parser = ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([*words, *arguments]))


@every_command
def test_a_file_with_mistakes_still_tells_where_corral_runs(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever is in the middle of an edit must be able to drain a worker."""
    file = tmp_path / "c.yaml"
    file.write_text("workerz: auto\nruntime_dir: elsewhere\nlisten: 5\nlisten: 6\n")
    run(name, "-c", str(file))
    said = capsys.readouterr().err
    assert str(tmp_path / "elsewhere") in said
    assert "is `corral up` running?" in said


@every_command
@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("workers: [\n", "c.yaml:2: this is no YAML: "),
        ("- a\n", "c.yaml:1: the file must hold keys with values"),
        ("runtime_dir: 5\n", "c.yaml:1: runtime_dir: must be a text, not 5"),
        ("runtime-dir: a\n", "c.yaml:1: runtime-dir: is not known here; did you mean runtime_dir?"),
        ("runtime_dir: a\nruntime_dir: b\n", "c.yaml:2: runtime_dir: is given twice, first in line 1"),
        ("runtime_dir: $NOWHERE/x\n", "runtime_dir: '$NOWHERE/x' names $NOWHERE, which is not set"),
        (None, "c.yaml: the file cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_does_not_tell_where_is_an_error_that_says_how_to(
    name: str, text: str | None, mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2."""
    file = tmp_path / "c.yaml"
    if text is not None:
        file.write_text(text)
    assert run(name, "-c", str(file)) == 2
    said = capsys.readouterr().err
    assert mistake in said
    assert said.endswith(": mend it, or name the directory of the sockets with --runtime-dir DIR\n")


def test_scripts_are_told_in_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under the key that all errors have."""
    assert run("drain", "--json", "-c", str(tmp_path / "none.yaml")) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error.endswith(": mend it, or name the directory of the sockets with --runtime-dir DIR")
