"""The `anthropic` package: messages, streamed and not, and count_tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic

from tests.clients.programs import steps

client: Any = anthropic.Anthropic(base_url=steps.URL, api_key="none", max_retries=0)
TOOL = {"name": "add", "description": "Add two numbers", "input_schema": steps.ADD["parameters"]}


def create(model: str, messages: list[dict[str, Any]], **more: Any) -> Any:
    """Return an answer in one piece."""
    return client.messages.create(model=model, max_tokens=1900, messages=messages, **more)


def chat(model: str) -> str:
    """Return its text."""
    text: str = create(model, steps.messages(steps.GO)).content[0].text
    return text


def streamed(model: str) -> Iterator[str]:
    """Yield the pieces of an answer."""
    with client.messages.stream(model=model, max_tokens=1900, messages=steps.messages(steps.GO)) as stream:
        yield from stream.text_stream


def tools() -> dict[str, Any]:
    """Let the model call a tool, give it the result, and hear what it says then."""
    question = steps.messages(steps.QUESTION)
    asked = create(steps.CALLER, question, tools=[TOOL])
    call = next(block for block in asked.content if block.type == "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "5"}
    said = [
        *question,
        {"role": "assistant", "content": asked.content},
        {"role": "user", "content": [result]},
    ]
    answer = create(steps.CALLER, said, tools=[TOOL])
    return {"name": call.name, "arguments": call.input, "answer": answer.content[0].text}


def count_tokens() -> int:
    """Return how long the prompt is."""
    counted = client.messages.count_tokens(model=steps.FIVE, messages=steps.messages(steps.GO))
    tokens: int = counted.input_tokens
    return tokens


steps.run(
    {
        "chat": lambda: chat(steps.FIVE),
        "stream": lambda: list(streamed(steps.FIVE)),
        "tools": tools,
        "count_tokens": count_tokens,
        "models": lambda: [model.id for model in client.models.list()],
        "unknown": lambda: chat(steps.UNKNOWN),
        "killed": lambda: steps.until_the_end(streamed(steps.LONG)),
    }
)
