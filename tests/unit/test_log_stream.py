from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from supervisor.contract.log_stream import LogStream
from supervisor.contract.shell.standard_error import taker


@dataclass
class Sink:
    """Takes so many bytes more, and none while it is broken."""

    room: int = 10**6
    broken: bool = False
    taken: bytes = b""
    attempts: list[bytes] = field(default_factory=list)

    def take(self, data: bytes) -> int:
        self.attempts.append(data)
        if self.broken:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: self.room]
        self.taken, self.room = self.taken + part, self.room - len(part)
        return len(part)


def test_each_line_is_taken_in_one_piece() -> None:
    """Others write to the same place."""
    sink = Sink()
    stream = LogStream(sink.take, "json")
    assert stream.write("a\n") == 2
    stream.flush()
    assert sink.attempts == [b"a\n"]


def test_dropped_lines_are_counted_and_told_once_there_is_room() -> None:
    """The reader must know that something is missing."""
    sink = Sink(broken=True)
    stream = LogStream(sink.take, "json")
    stream.write("1\n")
    stream.write("2\n")
    sink.broken = False
    stream.write("3\n")
    stream.write("4\n")
    told, *rest = sink.taken.decode().splitlines()
    assert json.loads(told) == {"event": "2 log lines could not be written", "level": "warning"}
    assert rest == ["3", "4"]


@pytest.mark.parametrize(("style", "told"), [("json", 1), ("console", 0)])
def test_a_line_that_was_cut_does_not_swallow_the_next(style: str, told: int) -> None:
    """Its stump stands on a line of its own."""
    sink = Sink(room=3)
    stream = LogStream(sink.take, "json" if style == "json" else "console")
    stream.write("longer\n")
    sink.room = 10**6
    stream.write("next\n")
    lines = sink.taken.decode().splitlines()
    assert (lines[0], lines[2]) == ("lon", "next")
    assert lines[1].count("{") == told


def filled(take: Callable[[bytes], int]) -> int:
    """Write until there is no room; return how much that was."""
    total = 0
    with suppress(BlockingIOError):
        while True:
            total += take(b"x" * 5000)
    return total


def test_a_pipe_that_nobody_reads_never_blocks() -> None:
    """And who shares it stays as it was: a shell does not expect O_NONBLOCK."""
    reading, writing = os.pipe()
    take = taker(writing)
    total = filled(take)
    assert total >= 4096
    assert os.get_blocking(writing)
    assert len(os.read(reading, 10**7)) == total
    assert take(b"again\n") == 6
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        take(b"nobody\n")
    os.close(writing)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it is for a process's life
def test_a_socket_that_nobody_reads_never_blocks() -> None:
    """The journal of systemd is one."""
    journal, ours = socket.socketpair()
    assert filled(taker(ours.fileno())) > 0
    assert ours.gettimeout() is None
    journal.close()
    ours.close()


def test_a_full_disk_is_an_error_and_nothing_else() -> None:
    """`/dev/full` is the smallest one."""
    full = os.open("/dev/full", os.O_WRONLY)
    stream = LogStream(taker(full), "json")
    stream.write("x\n")
    assert stream.dropped == 1
    os.close(full)
