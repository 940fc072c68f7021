"""What the gateway must know of single engines. Pure; with `client.py` the only place that names one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_EMBEDDED_HONOURS = frozenset({"num_ctx"})

_BY_ALL: Final = frozenset(
    {
        *("/api/generate", "/api/chat", "/api/embed", "/api/embeddings"),
        *("/v1/chat/completions", "/v1/completions", "/v1/embeddings"),
    }
)
"""Routes of every server that can be a worker."""
_OTHERS: Final[Mapping[str, frozenset[str]]] = {
    "ollama": frozenset({"/v1/messages", "/v1/responses", "/v1/audio/transcriptions"}),
    "embedded": frozenset({"/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/v1/rerank"}),
}
"""Further routes by engine: those of Ollama 0.24, whose older servers lack some, and of our own worker."""

_SPELLINGS: Final[Mapping[str, str]] = dict.fromkeys(
    ("/v1/reranking", "/v2/rerank", "/rerank", "/reranking"), "/v1/rerank"
)
"""Other paths that clients know a route under."""


def needs_context_in_requests(engine: str) -> bool:
    """Whether a model's own context must stand in each request, or its runner is loaded anew.

    Ollama compares the options of every request with those of the runner; its /v1 bodies cannot say them.
    Our own worker keeps a model as it was loaded.
    """
    return engine != "embedded"


def honours(engine: str, option: str) -> bool:
    """Whether the engine runs a model with this runner option when it is asked to."""
    return engine != "embedded" or option in _EMBEDDED_HONOURS


def uses_gpus(engine: str) -> bool:
    """Whether a worker on GPUs computes there: our own one computes on the CPU wherever it is put."""
    return engine != "embedded"


def one_per_weights(engine: str) -> bool:  # noqa: ARG001 -- so it is with all that there are
    """Whether a worker cannot hold two variants of the same weights: its runners are kept by weights alone.

    Asked for another one it would load the model anew in the place of the first.
    """
    return True


def worker_route(route: str) -> str:
    """Return the path under which workers have what a client may also spell otherwise."""
    return _SPELLINGS.get(route, route)


def spoken_by_all(route: str) -> bool:
    """Whether every engine has this route."""
    return route in _BY_ALL


def speaks(engine: str, route: str) -> bool:
    """Whether a worker of this engine may have the route; an engine that is not known here is asked."""
    return route in _BY_ALL or engine not in _OTHERS or route in _OTHERS[engine]


def speakers(route: str) -> list[str]:
    """Return the engines that have the route."""
    return [engine for engine in _OTHERS if speaks(engine, route)]


def continues_texts(engine: str) -> bool:
    """Whether a worker of the engine tells how it renders a prompt, and goes on with a text as it is."""
    return engine in _OTHERS


def dies_of_schemas(engine: str) -> bool:
    """Whether a runner of the engine crashes where a JSON schema gives no sound grammar.

    Our own worker's llama.cpp refuses such a grammar.
    """
    return engine != "embedded"
