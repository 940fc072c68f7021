"""The `ollama` package, synchronous."""

from __future__ import annotations

from typing import Any

import ollama

from tests.clients.programs import steps

client = ollama.Client(steps.URL)


def tools() -> dict[str, Any]:
    """Let the model call a tool, give it the result, and hear what it says then."""
    question = steps.messages(steps.QUESTION)
    asked = client.chat(steps.CALLER, question, tools=[steps.TOOL]).message
    call = (asked.tool_calls or [])[0].function
    result = {"role": "tool", "content": "5", "tool_name": "add"}
    answer = client.chat(steps.CALLER, [*question, asked, result], tools=[steps.TOOL]).message
    return {"name": call.name, "arguments": call.arguments, "answer": answer.content}


def generated() -> str | None:
    """The older route, which takes a bare prompt."""
    return client.generate(steps.FIVE, steps.GO).response


def manage() -> dict[str, Any]:
    """Make a model of another one, copy it, ask the copy, and delete both."""
    progress = list(client.create("made", from_=steps.FIVE, parameters={"num_predict": 3}, stream=True))
    if progress[-1].status != "success":
        raise RuntimeError(f"the last word is {progress[-1].status}")
    client.copy("made", "copied")
    answer, there = client.generate("copied", steps.GO).response, names()
    client.delete("made")
    client.delete("copied")
    return {"answer": answer, "there": there, "after": names()}


def names() -> list[str | None]:
    """Return the models' names."""
    return [model.model for model in client.list().models]


def streamed(model: str) -> Any:
    """Return the pieces of an answer."""
    return (part.message.content for part in client.chat(model, steps.messages(steps.GO), stream=True))


steps.run(
    {
        "chat": lambda: client.chat(steps.FIVE, steps.messages(steps.GO)).message.content,
        "stream": lambda: list(streamed(steps.FIVE)),
        "complete": generated,
        "json": lambda: (
            client.chat(steps.JSON, steps.messages(steps.GO), format=steps.SCHEMA).message.content
        ),
        "tools": tools,
        "embed": lambda: client.embed(steps.EMBED, steps.TEXTS).embeddings,
        "models": names,
        "manage": manage,
        "unknown": lambda: client.chat(steps.UNKNOWN, steps.messages(steps.GO)).message.content,
        "killed_generate": lambda: steps.until_the_end(client.generate(steps.LONG, steps.GO, stream=True)),
        "killed": lambda: steps.until_the_end(streamed(steps.LONG)),
    }
)
