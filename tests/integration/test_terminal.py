"""What SIGHUP means to a supervisor: its terminal was closed, or somebody asks for a reload.

Seeds, in `supervisor/contract/shell/hangup.py`: forget in `at_start` that the signal is ignored under nohup,
or have `was_closed` always say yes.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.support.corral import COMMAND, CONFIG, plain_environment
from tests.support.supervisor import PATIENCE_S, RunningSupervisor, eventually, supervisor

_ON_TERMINAL: Final = (
    "import os, signal, sys\n"
    "os.setsid()\n"
    "os.open(sys.argv[1], os.O_RDWR)\n"  # a session's first one is its own
    "ignored = sys.argv[2] == 'nohup'\n"  # as these tests themselves may have been started
    "signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)\n"
    "os.execv(sys.argv[3], sys.argv[3:])\n"
)


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """A terminal: the end that its window holds, and the name of the other one."""
    window, inner = pty.openpty()
    yield window, os.ttyname(inner)
    os.close(inner)


@contextmanager
def started(directory: Path, tty: str, how: str) -> Iterator[RunningSupervisor]:
    """Run a supervisor on this terminal."""
    entering = (sys.executable, "-c", _ON_TERMINAL, tty, how)
    with supervisor(directory, {"name": "a"}, entering=entering) as corral:
        corral.wait_until_ready()
        yield corral


def reloads(corral: RunningSupervisor) -> int:
    """Return how many were begun."""
    return sum(line["event"] == "reload plan" for line in corral.log())


def test_closing_the_terminal_ends_it(tmp_path: Path, terminal: tuple[int, str]) -> None:
    """Nobody would see it any more, and it could not be ended with Ctrl-C."""
    window, tty = terminal
    with started(tmp_path, tty, "plainly") as corral:
        os.close(window)
        assert corral.process.wait(PATIENCE_S) == 0
        assert reloads(corral) == 0


def test_on_an_open_terminal_the_signal_asks_for_a_reload(tmp_path: Path, terminal: tuple[int, str]) -> None:
    """It lives on until it is told to end."""
    window, tty = terminal
    with started(tmp_path, tty, "plainly") as corral:
        corral.process.send_signal(signal.SIGHUP)
        eventually(lambda: reloads(corral) == 1, "a reload")
        assert corral.stop() == 0
    os.close(window)


def test_under_nohup_it_outlives_the_terminal(tmp_path: Path, terminal: tuple[int, str]) -> None:
    """That is what nohup is for; the closing asks for a reload, as any SIGHUP does."""
    window, tty = terminal
    with started(tmp_path, tty, "nohup") as corral:
        os.close(window)
        eventually(lambda: reloads(corral) == 1, "the reload that the closing asked for")
        assert corral.stop() == 0


def test_a_signal_that_comes_before_it_listens_is_heard_once_it_does(tmp_path: Path) -> None:
    """It would have ended a Corral that still reads its file; here the file comes slowly, by way of a pipe.

    Seed: do not hold it back in `supervisor/commands/up.py`.
    """
    file, text = tmp_path / "corral.yaml", yaml.safe_dump(CONFIG | {"workers": [{"name": "a"}]})
    os.mkfifo(file)
    argv, log_file = [COMMAND, "up", "--config", str(file)], tmp_path / "log"
    with (
        log_file.open("w") as log,
        subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=log, env=plain_environment(), start_new_session=True
        ) as process,
    ):
        try:
            writing = eventually(partial(opened_by_reader, file), "that the file is read")
            process.send_signal(signal.SIGHUP)
            os.write(writing, text.encode())
            os.close(writing)
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"Corral is ready")
            writing = eventually(partial(opened_by_reader, file), "that the file is read again")
            os.write(writing, text.encode())
            os.close(writing)
            eventually(lambda: '"reloaded"' in log_file.read_text(), "the reload")
        finally:
            process.terminate()


def opened_by_reader(pipe: Path) -> int:
    """Return a descriptor for writing, or 0 as long as nobody reads."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return 0
