"""What every client program is made of: named steps, each told about in one line of JSON on stdout.

A program runs in an environment of its own, so this file and the programs beside it import nothing of Corral.
It says what a client saw or raised and judges nothing; the tests judge.

    {"step": "chat", "saw": "1 2 3 4 5"}
    {"step": "unknown", "raised": ["ollama.ResponseError", "builtins.Exception"], "text": "model 'nobody' …"}
    {"step": "killed", "begun": true}

The last line says that the first piece of the long answer is here: the worker is to be killed now.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final

URL: Final = sys.argv[-1]
"""Where Corral listens: the last argument."""

FIVE: Final = "five"
"""A model that answers `1 2 3 4 5`, whatever it is asked."""
LONG: Final = "long"
"""A model that takes seconds for its answer."""
JSON: Final = "json"
"""A model that answers with an object of the form `SCHEMA`."""
CALLER: Final = "caller"
"""A model that calls `add` where it has tools and no result yet, and says the sum otherwise."""
EMBED: Final = "embed"
"""A model that turns text into vectors."""
UNKNOWN: Final = "nobody"
"""There is no such model."""

GO: Final = "go"
QUESTION: Final = "What is 2 + 3?"
TEXTS: Final = ["horse", "a ranch"]
SCHEMA: Final = {
    "type": "object",
    "properties": {"colour": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["colour", "count"],
}
ADD: Final = {
    "name": "add",
    "description": "Add two numbers",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}
TOOL: Final = {"type": "function", "function": ADD}


def messages(text: str) -> list[dict[str, Any]]:
    """Return a conversation of one question."""
    return [{"role": "user", "content": text}]


def run(steps: Mapping[str, Callable[[], Any]]) -> None:
    """Take the steps one after the other; what one raises is told and keeps none from its turn."""
    for name, step in steps.items():
        try:
            saw = step()
        except Exception as raised:  # noqa: BLE001 -- what a client raises is what is to be seen
            say(step=name, raised=_classes(raised), text=str(raised))
        else:
            say(step=name, saw=saw)


def say(**line: Any) -> None:
    """Print a line for the test."""
    print(json.dumps(line), flush=True)  # noqa: T201 -- that is the interface


def begun() -> None:
    """Tell the test that the long answer has begun."""
    say(step="killed", begun=True)


def until_the_end(pieces: Iterable[Any]) -> str:
    """Read a long answer whose worker is killed; what is returned would be a client that noticed nothing."""
    count = 0
    for count, _ in enumerate(pieces, 1):
        if count == 1:
            begun()
    return f"ended after {count} pieces as if all were well"


async def until_the_end_async(pieces: AsyncIterator[Any]) -> str:
    """Do the same with an asynchronous stream."""
    count = 0
    async for _ in pieces:
        count += 1
        if count == 1:
            begun()
    return f"ended after {count} pieces as if all were well"


def _classes(raised: Exception) -> list[str]:
    """Return its class and those above it, by their names."""
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in type(raised).__mro__]
