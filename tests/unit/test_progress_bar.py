from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.commands.progress_bar import ProgressBar

LONG = "42 % of 915.8 MB  reading a-model-with-quite-a-long-name-7b-instruct-Q4_K_M.gguf"


@contextmanager
def terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Let standard error be a terminal of so many columns, and yield what reads its screen."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(inner, "w", encoding="utf-8") as screen, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", screen)
        yield outer
    os.close(outer)


def line_after_drawing(columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a long text looks like on a terminal."""
    with terminal(columns, monkeypatch) as outer:
        ProgressBar().draw(42, 100, LONG)
        return os.read(outer, 4096).decode().removeprefix("\r\033[K")


def test_a_bar_stays_in_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that wrapped would leave a line behind at each step."""
    assert line_after_drawing(80, monkeypatch) == f"[{'#' * 12}{'.' * 18}] {LONG[:45]}…"


def test_a_bar_that_fits_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a wide terminal."""
    assert line_after_drawing(160, monkeypatch).endswith(LONG)


def test_nothing_is_drawn_into_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    """Logs and scripts do not want it."""
    bar = ProgressBar()
    bar.draw(1, 2, "half")
    bar.end()
    assert capfd.readouterr().err == ""
