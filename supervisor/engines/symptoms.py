"""What a line of a worker's log says of its devices and its memory, whichever engine wrote it. Pure.

Decides by the engines' own words. An Ollama whose GPU is gone, or hidden, starts all the same and computes
on the CPU without a word to its clients; in its log it says on what it computes. A runner that died is a line
too.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Symptom(StrEnum):
    """What there is to find out."""

    NO_GPU = "it found no GPU and would compute on the CPU"
    RUNNER_DIED = "a process that held a model died"
    DEAD_RUNNER_ASKED = "it asks a process that a signal has ended"
    RUNNER_STARTS = "it started a process for a model, and waits for its first answer"
    RUNNER_ANSWERS = "that process answers, or is not waited for any more"
    RUNNER_EXITED = "a process that it had started for a model ended by itself, with words and a status"


_SYMPTOMS: Final = (
    (Symptom.NO_GPU, re.compile(r'msg="inference compute" .*\blibrary=cpu\b')),
    (Symptom.RUNNER_EXITED, re.compile(r'msg="llama runner terminated" error="exit status')),
    (Symptom.RUNNER_DIED, re.compile(r'"event":\s*"runner_gone"|the runner died while it loaded the model')),
    (Symptom.RUNNER_DIED, re.compile(r'msg="llama runner terminated"|runner process has terminated')),
    (Symptom.DEAD_RUNNER_ASKED, re.compile(r'msg="llama runner process no longer running"')),
    (Symptom.RUNNER_STARTS, re.compile(r'msg="starting runner" cmd=".* --model ')),
    (Symptom.RUNNER_ANSWERS, re.compile(r'Server listening on 127\.0\.0\.1:|msg="Load failed"')),
)
"""Source: discover/types.go and llm/server.go of Ollama 0.5 to 0.33; the embedded worker's own log."""


def symptom_of(line: str) -> Symptom | None:
    """Return what a line says, if it says anything of that."""
    return next((symptom for symptom, words in _SYMPTOMS if words.search(line)), None)
