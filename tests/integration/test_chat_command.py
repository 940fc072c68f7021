"""`corral run` and `corral models` as a person at a terminal uses them, the real thing behind."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.corral import COMMAND, Corral, corral
from tests.support.models import counting_model

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corral]:
    """A Corral whose model counts, slowly enough to be stopped."""
    directory = tmp_path_factory.mktemp("chat")
    counting_model(directory / "models", width=512, layers=6, feed_forward=2048)
    with corral(directory) as running:
        yield running


class Terminal:
    """What a person sees and types."""

    def __init__(self, fd: int) -> None:
        """Take the outer end of a pseudo-terminal."""
        self._fd = fd
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until the text has appeared since the last wait."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not appear; on the screen: {self.seen!r}"
            self.seen += os.read(self._fd, 4096).decode(errors="replace")
        self.seen = self.seen.partition(text)[2]


def told(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([COMMAND, *argv], capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@contextmanager
def chat(running: Corral, *words: str) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    """Run `corral run` on a terminal of its own."""
    outer, inner = pty.openpty()
    argv = [COMMAND, "run", "--runtime-dir", str(running.directory / "run"), *words]
    with subprocess.Popen(argv, stdin=inner, stdout=inner, stderr=inner, start_new_session=True) as process:
        os.close(inner)
        try:
            yield Terminal(outer), process
        finally:
            process.kill()
            os.close(outer)


def test_chat_streams_and_ctrl_c_stops_an_answer_but_not_the_chat(running: Corral) -> None:
    """After Ctrl-C the next question is answered; Ctrl-D ends with 0."""
    with chat(running, "count") as (terminal, process):
        terminal.wait_for(">>> ")
        terminal.type("go\n")
        terminal.wait_for("1 2 3")
        process.send_signal(2)
        terminal.wait_for(">>> ")
        terminal.type("go\n")
        terminal.wait_for("1 2 3")
        process.send_signal(2)
        terminal.wait_for(">>> ")
        terminal.type("\x04")
        assert process.wait(PATIENCE_S) == 0


def test_one_prompt_is_answered_and_that_is_all(running: Corral) -> None:
    """With words behind the model it ends after the answer; a pipe on standard input does the same."""
    ended = subprocess.run(
        [COMMAND, "run", "--url", running.url, "nobody", "hello"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 1
    assert "count:latest" in ended.stderr


def test_models_are_listed_with_who_holds_them(running: Corral) -> None:
    """For people and as JSON."""
    argv = [COMMAND, "models", "--url", running.url]
    assert "count:latest" in subprocess.check_output(argv, text=True, timeout=PATIENCE_S)
    listed = json.loads(subprocess.check_output([*argv, "--json"], text=True, timeout=PATIENCE_S))
    assert [model["name"] for model in listed["models"]] == ["count:latest"]
    assert listed["models"][0]["loaded_on"] in ([], ["cpu0"], ["cpu1"])


@pytest.mark.parametrize("argv", [["models"], ["run", "count", "x"], ["rm", "count"]])
def test_commands_name_the_url_where_nobody_answers(argv: list[str]) -> None:
    """In words of ours: those of the packages speak of another program, or of a number."""
    ended = told([*argv, "--url", "127.0.0.1:1/"])
    assert ended.returncode == 1
    assert ended.stderr.endswith(": nobody answers at http://127.0.0.1:1; is `corral up` running?\n")


@pytest.mark.parametrize("url", ["http://", "ftp://box", "http://box:port", "http://[::1"])
def test_commands_refuse_what_is_no_url(url: str) -> None:
    """Nothing is asked."""
    ended = told(["models", "--url", url])
    assert ended.returncode == 2
    assert f"--url: {url!r} is no URL such as http://127.0.0.1:11434" in ended.stderr


def test_commands_say_when_no_corral_runs(tmp_path: Path) -> None:
    """Exit code 2, and what to do."""
    for argv in (["models"], ["run", "count", "x"]):
        ended = told([*argv, "--runtime-dir", str(tmp_path)])
        assert ended.returncode == 2
        assert "corral up" in ended.stderr
