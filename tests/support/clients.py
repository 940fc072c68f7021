"""Runs client programs against a Corral of their own, and kills a worker under them when they say so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.corral import Corral
from tests.support.models import calling_model, counting_model, embedding_model, reciting_model
from tests.support.supervisor import ROOT, eventually

Seen = Mapping[str, Mapping[str, Any]]
"""What a program told, by step."""

ANSWERS: Final = {
    "json": '{"colour": "green", "count": 3}',
    "supervisor": "I have a plan\nFinal Answer: Write add(a, b).",
    "coder": "It is written\nFinal Answer: def add(a, b): return a + b",
    "auditor": "I looked at each line\nFinal Answer: Approved.",
}
"""What each reciting model says."""
LONG: Final = "long"
_QUIET: Final = {
    "ANONYMIZED_TELEMETRY": "False",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OTEL_SDK_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
}
"""No client is to call anybody but Corral."""


def make_models(directory: Path) -> None:
    """Write the models that `programs/steps.py` names."""
    counting_model(directory, name="five", words=5)
    counting_model(directory, name=LONG, width=512, layers=6, feed_forward=2048)
    calling_model(directory)
    embedding_model(directory)
    for name, text in ANSWERS.items():
        reciting_model(directory, name=name, says=text)


def watch(argv: Sequence[str], running: Corral) -> Seen:
    """Run a program to its end and return what it told, with the loads that Corral had made by then."""
    log = running.directory / "client.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*argv, running.url],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=_environment(running.directory),
        ) as process,
    ):
        try:
            seen = _follow(process, running)
        finally:
            process.kill()
    assert process.returncode == 0, f"{argv}: {process.returncode}\n{log.read_text()[-4000:]}"
    return seen


def _follow(process: subprocess.Popen[str], running: Corral) -> Seen:
    assert process.stdout is not None
    seen: dict[str, Mapping[str, Any]] = {}
    for line in process.stdout:
        if not line.startswith('{"step"'):  # what a library prints
            continue
        told = json.loads(line)
        if told.get("begun"):
            _kill_who_answers(running)
        else:
            seen[told["step"]] = told | {"loads": _loads(running)}
    process.wait()
    return seen


def _kill_who_answers(running: Corral) -> None:
    """Kill the worker that is giving the long answer, with all its processes."""

    def answering() -> int:
        return next((w["pid"] for w in running.ps()["workers"] if _gives_long_answer(w)), 0)

    os.killpg(eventually(answering, "a worker that gives the long answer"), signal.SIGKILL)


def _gives_long_answer(worker: Mapping[str, Any]) -> bool:
    return any(model["busy"] and model["model"].startswith(LONG) for model in worker["resident"])


def _loads(running: Corral) -> int:
    return sum(line["event"] == "load" for line in running.log())


def _environment(home: Path) -> dict[str, str]:
    """Return an environment in which no client finds what a person has set for it."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return kept | _QUIET | {"HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
