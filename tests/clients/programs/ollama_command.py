"""The `ollama` command, whose binary is the argument before the URL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.clients.programs import steps

BINARY = sys.argv[1]
ENVIRONMENT = os.environ | {"OLLAMA_HOST": steps.URL, "TERM": "dumb"}
STOPPED_WITHIN_S = 5.0


def command(*arguments: str) -> str:
    """Return what it prints; raise with its complaint if it fails."""
    done = subprocess.run(
        [BINARY, *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


def names(*arguments: str) -> list[str]:
    """Return the first column of a list."""
    return [line.split()[0] for line in command(*arguments).splitlines()[1:]]


def streamed(model: str) -> Iterator[bytes]:
    """Yield what it writes as it writes it."""
    argv = [BINARY, "run", model, steps.GO]
    with subprocess.Popen(
        argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while piece := os.read(process.stdout.fileno(), 4096):
            yield piece
        complaint = process.stderr.read().decode()
    if process.returncode:
        raise RuntimeError(complaint.strip().splitlines()[-1])


def loaded() -> dict[str, Any]:
    """Return what is loaded after an answer, and after it was stopped."""
    command("run", steps.FIVE, steps.GO)
    before = names("ps")
    command("stop", steps.FIVE)
    deadline = time.monotonic() + STOPPED_WITHIN_S
    while steps.FIVE in " ".join(after := names("ps")) and time.monotonic() < deadline:
        pass  # each look is a process, so this does not spin
    return {"before": before, "after": after}


def manage() -> dict[str, Any]:
    """Make a model of a GGUF file, copy it, ask the copy, and delete both."""
    home = Path(os.environ["HOME"])
    modelfile = home / "Modelfile"
    modelfile.write_text(f"FROM {home}/models/{steps.FIVE}.gguf\nPARAMETER num_predict 3\n")
    command("create", "made", "-f", str(modelfile))
    command("cp", "made", "copied")
    answer, there = command("run", "copied", steps.GO), names("list")
    command("rm", "made", "copied")
    return {"answer": answer, "there": there, "after": names("list")}


steps.run(
    {
        "chat": lambda: command("run", steps.FIVE, steps.GO),
        "json": lambda: command("run", "--format", "json", steps.JSON, steps.GO),
        "embed": lambda: [json.loads(command("run", steps.EMBED, text)) for text in steps.TEXTS],
        "models": lambda: names("list"),
        "shown": lambda: command("show", steps.FIVE),
        "loaded": loaded,
        "manage": manage,
        "unknown": lambda: command("show", steps.UNKNOWN),
        "killed": lambda: steps.until_the_end(streamed(steps.LONG)),
    }
)
