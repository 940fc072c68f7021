"""Which clients are tried, with which packages, and what each is to be seen doing.

The table of the README is made of this (`table`), so that it says what the tests hold. Knows nothing of how
the programs are run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

HERE: Final = "here"
"""The environment of the tests themselves: its packages are in the extra `test`."""

NPM: Final = "npm"
COMMAND: Final = "command"
"""The tests' own, and the binary `ollama` from PATH or the variable CORRAL_TEST_OLLAMA."""

ENVIRONMENTS: Final[Mapping[str, Sequence[str]]] = {
    HERE: (),
    COMMAND: (),
    "fastapi": ("fastapi==0.165.0", "httpx==0.28.1", "ollama==0.6.3"),
    "langchain": ("langchain-ollama==1.1.0", "langchain-openai==1.7.3", "langgraph==1.2.22"),
    "llama-index": ("llama-index-llms-ollama==0.11.0", "llama-index-embeddings-ollama==0.10.0"),
    "litellm": ("litellm==1.106.2", "mcp==2.3.0"),
    "crewai": ("crewai==1.15.30",),
    NPM: ("ollama@0.6.4", "openai@7.57.0"),
}
"""What is installed into each, with exact versions: what was seen is told of these."""

COLUMNS: Final[Mapping[str, str]] = {
    "chat": "chat",
    "stream": "streamed",
    "json": "JSON",
    "tools": "tools",
    "embed": "embeddings",
    "models": "models",
    "unknown": "unknown model",
    "killed": "worker killed",
}
"""Steps that have a column in the README, and its head. Others are told of in the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client program."""

    name: str
    """As people know it."""
    program: str
    """The file in `programs/`, without its ending."""
    environment: str = HERE
    version: str
    """With which it was seen."""
    steps: frozenset[str]
    """What the program does."""
    raises: Mapping[str, str] = field(default_factory=dict)
    """The client's own exception at each step that is to fail."""
    note: str = ""
    """What else it does, for the README."""


def _steps(*more: str, without: Sequence[str] = ()) -> frozenset[str]:
    """Return those that nearly every client takes, more or fewer."""
    return frozenset(COLUMNS) - frozenset(without) | frozenset(more)


def _raises(unknown: str, killed: str) -> dict[str, str]:
    return {"unknown": unknown, "killed": killed}


_RESPONSE_ERROR: Final = _raises("ollama._types.ResponseError", "ollama._types.ResponseError")
_OPENAI_ERRORS: Final = _raises("openai.NotFoundError", "openai.APIError")

CLIENTS: Final = (
    Client(
        name="`ollama` (Python)",
        program="ollama_sync",
        version="0.6.3",
        steps=_steps("complete", "manage", "killed_generate"),
        raises=_RESPONSE_ERROR | {"killed_generate": _RESPONSE_ERROR["killed"]},
        note="generate, create, copy, delete",
    ),
    Client(
        name="`ollama` (Python, async)",
        program="ollama_async",
        version="0.6.3",
        steps=_steps(),
        raises=_RESPONSE_ERROR,
    ),
    Client(
        name="`ollama` (command)",
        program="ollama_command",
        environment=COMMAND,
        version="0.24.0",
        steps=_steps("shown", "loaded", "manage", without=["stream", "tools"]),
        raises=_raises("builtins.RuntimeError", "builtins.RuntimeError"),
        note="run, list, show, ps, stop, create, cp, rm",
    ),
    Client(
        name="`ollama` (npm)",
        program="ollama_npm",
        environment=NPM,
        version="0.6.4",
        steps=_steps("complete"),
        raises=_raises("ResponseError", "Error"),
        note="generate",
    ),
    Client(
        name="`openai` (Python)",
        program="openai_sdk",
        version="3.54.0",
        steps=_steps("complete", "respond", "respond_streamed", "killed_complete", "killed_respond"),
        raises=_OPENAI_ERRORS
        | dict.fromkeys(("killed_complete", "killed_respond"), _OPENAI_ERRORS["killed"]),
        note="completions; responses, streamed too",
    ),
    Client(
        name="`openai` (npm)",
        program="openai_npm",
        environment=NPM,
        version="7.57.0",
        steps=_steps("complete", "respond", "respond_streamed"),
        raises=_raises("NotFoundError", "APIError"),
        note="completions; responses, streamed too",
    ),
    Client(
        name="`anthropic` (Python)",
        program="anthropic_sdk",
        version="2.12.0",
        steps=_steps("count_tokens", without=["json", "embed"]),
        raises=_raises("anthropic.NotFoundError", "anthropic.APIError"),
        note="count_tokens",
    ),
    Client(
        name="`langchain-ollama`",
        program="langchain_ollama_chat",
        environment="langchain",
        version="1.1.0",
        steps=_steps(without=["models"]),
        raises=_RESPONSE_ERROR,
    ),
    Client(
        name="`langchain-openai`",
        program="langchain_openai_chat",
        environment="langchain",
        version="1.7.3",
        steps=_steps("respond", without=["models"]),
        raises=_OPENAI_ERRORS,
        note="responses",
    ),
    Client(
        name="LangGraph",
        program="langgraph_chain",
        environment="langchain",
        version="1.2.22",
        steps=_steps("chain", without=["json", "embed", "models"]),
        raises=_RESPONSE_ERROR,
        note="supervisor → coder → auditor",
    ),
    Client(
        name="CrewAI",
        program="crewai_crew",
        environment="crewai",
        version="1.15.30",
        steps=_steps("chain", without=["embed", "models"]),
        raises=_raises("builtins.ValueError", "openai.APIError"),
        note="supervisor → coder → auditor",
    ),
    Client(
        name="`llama-index-llms-ollama`",
        program="llama_index",
        environment="llama-index",
        version="0.11.0",
        steps=_steps("complete", without=["models"]),
        raises=_RESPONSE_ERROR,
        note="complete; its embeddings are `llama-index-embeddings-ollama` 0.10.0",
    ),
    Client(
        name="`litellm`",
        program="lite_llm",
        environment="litellm",
        version="1.106.2",
        steps=_steps("routes", without=["models"]),
        raises=_raises("litellm.exceptions.NotFoundError", "openai.APIError"),
        note="routes `ollama_chat`, `ollama`, `openai`, `anthropic`",
    ),
    Client(
        name="FastAPI with `AsyncClient`",
        program="fastapi_app",
        environment="fastapi",
        version="0.165.0",
        steps=_steps("gather", without=["json", "tools"]),
        raises=_RESPONSE_ERROR,
        note="`asyncio.gather` over 12 questions",
    ),
)


def table() -> str:
    """Return the README's table."""
    head = ["client", "version", *COLUMNS.values(), "also"]
    rows = [head, ["---"] * len(head), *map(_row, CLIENTS)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(client: Client) -> list[str]:
    marks = ["✓" if step in client.steps else "-" for step in COLUMNS]
    return [client.name, client.version, *marks, client.note]
