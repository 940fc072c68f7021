from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints
from types import ModuleType

import pytest

from supervisor import cli
from supervisor.contract.command import ENTRY_POINT_GROUP, EXIT_FAILED


def install(monkeypatch: pytest.MonkeyPatch, **commands: str) -> None:
    """Let the command find these modules, by the names of subcommands."""
    found = EntryPoints(EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in commands.items())
    monkeypatch.setattr(cli, "entry_points", lambda *, group: found.select(group=group))


def a_command(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """Make a module whose run raises."""
    module = ModuleType("raising_command")

    def run(_args: object) -> int:
        raise error

    vars(module).update(HELP="raises", add_arguments=lambda _parser: None, run=run)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    install(monkeypatch, raising=module.__name__)


def test_a_command_that_cannot_be_loaded_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It matters only when it is chosen, and help says so."""
    install(monkeypatch, broken="no.such.module", check="supervisor.commands.check")
    assert cli.main(["--help"]) == 0
    assert "broken  (cannot be loaded: No module named 'no')" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", "--help"])
    assert ended.value.code == 0
    assert cli.main(["broken"]) == EXIT_FAILED
    assert capsys.readouterr().err == "corral broken: this command cannot be loaded: No module named 'no'\n"


def test_ctrl_c_ends_a_command_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the code that a shell expects."""
    a_command(monkeypatch, KeyboardInterrupt)
    assert cli.main(["raising"]) == 130
    assert capsys.readouterr().err == ""
