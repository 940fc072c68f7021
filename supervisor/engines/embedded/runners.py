"""Runner processes: start, first answer, memory, end. The only place that spawns.

Decides nothing about which model runs. A runner is told its order, and the key to its HTTP server, on
stdin, so that neither shows in the process list; that pipe is also what it lives by.

The honest size of a runner is its PSS right after the load, but never less than the estimate: the KV
cache is touched by then, while the compute buffers fill with the first long prompt, and weights that a
runner of another worker has mapped too count only half in the PSS.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.contract.shell.background_tasks import BackgroundTasks
from supervisor.engines.embedded.failures import INTERNAL, ApiError

_KEPT_LINES: Final = 20
_LOG_LINE: Final = re.compile(r"^[\d.]+ (?P<level>[EWID]) (?P<text>.*)")
_KIB: Final = 1024
_STATE, _FLAGS, _PENDING = 0, 6, 28
"""Places in /proc/PID/stat after the name: see proc_pid_stat(5)."""
_EXITING: Final = 0x4
"""The kernel's PF_EXITING."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a runner is to load."""

    path: str
    name: str
    context_length: int
    slots: int
    threads: int
    embeds: bool
    ranks: bool


class Runner:
    """One child process with one model."""

    def __init__(self, process: Process, key: str) -> None:
        self._process = process
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._stderr = asyncio.create_task(self._read_stderr())
        self.headers = {"Authorization": f"Bearer {key}"}
        self.gone = asyncio.Event()
        """Set by its owner, when its end is known and acted on."""
        self.address = ""
        """`http://127.0.0.1:PORT`, once it is ready."""

    @property
    def alive(self) -> bool:
        """The process has not ended, as far as it is known."""
        return self._process.returncode is None

    @property
    def last_words(self) -> str:
        """The last line it wrote to its log."""
        return self._lines[-1] if self._lines else ""

    @property
    def pid(self) -> int:
        """For people."""
        return self._process.pid

    def is_ending(self) -> bool:
        """Return whether it is over or has been killed, as the kernel knows before its parent does."""
        return not self.alive or (sys.platform == "linux" and _is_ending(self.pid))

    async def wait_ready(self) -> None:
        """Wait for the first answer.

        Raises:
            ApiError: the model cannot be loaded; the text is the engine's reason.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the runner died while it loaded the model"}
        if "error" in answer:
            await self.wait_gone()
            raise ApiError(INTERNAL, f"unable to load model: {self._reason(answer['error'])}")
        if not self.alive:  # whoever is told of its end was told already, and left it to the load
            raise ApiError(INTERNAL, "the runner died as soon as it had loaded the model")
        self.address = answer["address"]

    async def wait_gone(self) -> int:
        """Wait until the process is over and its last words are read; return its exit code."""
        code = await self._process.wait()
        await self._stderr
        return code

    def kill(self) -> None:
        """End it now; llama.cpp keeps nothing that a gentle end would save."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def measure_bytes(self) -> int | None:
        """Return what the process takes, or None where the kernel does not tell."""
        return _pss_bytes(self.pid)

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:  # longer than the reader's buffer: its end comes next
                continue
            if not line:
                return
            self._lines.append(line.decode("utf-8", "replace").rstrip())

    def _reason(self, error: str) -> str:
        """The first error that llama.cpp logged says more than the exception."""
        return engine_reason(tuple(self._lines)) or error


def engine_reason(lines: tuple[str, ...]) -> str:
    """Return the first error among llama.cpp's log lines, or nothing."""
    errors = [m["text"] for line in lines if (m := _LOG_LINE.match(line)) and m["level"] == "E"]
    telling = [text for text in errors if "error loading model" in text]
    return (telling or errors or [""])[0].rpartition("llama_model_load: ")[2].strip()


async def spawn(order: Order, on_exit: Callable[[Runner, int], None]) -> Runner:
    """Start a runner; `on_exit` is called once with its exit code.

    Raises:
        OSError: the process cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "supervisor.engines.embedded.runner", stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    key = secrets.token_hex(16)
    runner = Runner(process, key)
    fields = {name: getattr(order, name) for name in Order.__dataclass_fields__}
    assert process.stdin is not None
    with contextlib.suppress(RuntimeError):  # uvloop, of one that is dead already: wait_ready tells
        process.stdin.write(json.dumps({**fields, "key": key}).encode() + b"\n")
    _WATCHES.start(_watch(runner, on_exit))
    return runner


async def _watch(runner: Runner, on_exit: Callable[[Runner, int], None]) -> None:
    on_exit(runner, await runner.wait_gone())


_WATCHES: Final = BackgroundTasks()


def usable_threads() -> int:
    """Return how many threads a runner computes with: one core stays free for HTTP and sampling."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, cores - 1)


def _is_ending(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return True
    state, flags, pending = fields[_STATE], int(fields[_FLAGS]), int(fields[_PENDING])
    return state in "ZX" or bool(flags & _EXITING) or bool(pending & 1 << (signal.SIGKILL - 1))


def _pss_bytes(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    except OSError:
        return None
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return None if match is None else int(match[1]) * _KIB
