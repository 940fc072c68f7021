"""What the gateway must know of single engines. Pure; with `client.py` the only place that names one."""

from __future__ import annotations


def needs_context_in_requests(engine: str) -> bool:
    """Whether a model's own context must stand in each request, or its runner is loaded anew.

    Ollama compares the options of every request with those of the runner; its /v1 bodies cannot say them.
    Our own worker keeps a model as it was loaded.
    """
    return engine != "embedded"
