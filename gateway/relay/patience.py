"""How long a worker that lives may take to the first byte of an answer. Pure.

Ollama sends the head of an answer with its first chunk: after the load, if the model is not there, and
after the prompt; of an answer that is not streamed after everything. So the time to allow follows from what
is known of model and worker, several times over. What was never measured is given far more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MARGIN: Final = 4.0
"""So many times what is expected."""
SLOWEST_TOKENS_PER_S: Final = 20.0
"""At which a prompt is read, where no speed was measured: a large model on an old CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is known of a request on its worker. Seconds."""

    prompt_tokens: int
    tokens_per_s: float | None
    """At which its prompt is read there; None where that was never measured."""
    busy: int = 1
    """Answers that share the worker with it, itself included."""
    load_s: float = 0.0
    """To load the model, where it may not be there; 0 where it is."""
    answer_s: float = 0.0
    """To compute the whole answer, where it is not streamed; 0 where it is."""


def first_byte_s(expected: Expected, *, least_s: float) -> float:
    """Return the seconds after which a worker that sent nothing is suspected of hanging."""
    speed = expected.tokens_per_s
    if speed is None:
        prompt_s = expected.prompt_tokens / SLOWEST_TOKENS_PER_S
    else:
        prompt_s = MARGIN * expected.prompt_tokens / speed * max(1, expected.busy)
    return least_s + prompt_s + MARGIN * (expected.load_s + expected.answer_s)
