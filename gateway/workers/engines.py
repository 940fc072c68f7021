"""What the gateway must know of single engines. Pure; with `client.py` the only place that names one."""

from __future__ import annotations

_EMBEDDED_HONOURS = frozenset({"num_ctx"})


def needs_context_in_requests(engine: str) -> bool:
    """Whether a model's own context must stand in each request, or its runner is loaded anew.

    Ollama compares the options of every request with those of the runner; its /v1 bodies cannot say them.
    Our own worker keeps a model as it was loaded.
    """
    return engine != "embedded"


def honours(engine: str, option: str) -> bool:
    """Whether the engine runs a model with this runner option when it is asked to."""
    return engine != "embedded" or option in _EMBEDDED_HONOURS


def one_per_weights(engine: str) -> bool:  # noqa: ARG001 -- so it is with all that there are
    """Whether a worker cannot hold two variants of the same weights: its runners are kept by weights alone.

    Asked for another one it would load the model anew in the place of the first.
    """
    return True
