"""The `openai` package: chat, completions, responses, embeddings, models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai

from tests.clients.programs import steps

client: Any = openai.OpenAI(base_url=f"{steps.URL}/v1", api_key="none", max_retries=0)


def chat(model: str, **more: Any) -> Any:
    """Return the message of an answer in one piece."""
    answer = client.chat.completions.create(model=model, messages=steps.messages(steps.GO), **more)
    return answer.choices[0].message


def streamed(model: str) -> Iterator[str]:
    """Yield the pieces of an answer."""
    chunks = client.chat.completions.create(model=model, messages=steps.messages(steps.GO), stream=True)
    for chunk in chunks:
        for choice in chunk.choices:
            yield choice.delta.content or ""


def as_object() -> str:
    """Ask for an answer of a form."""
    form = {"type": "json_schema", "json_schema": {"name": "seen", "schema": steps.SCHEMA}}
    text: str = chat(steps.JSON, response_format=form).content
    return text


def tools() -> dict[str, Any]:
    """Let the model call a tool, give it the result, and hear what it says then."""
    question = steps.messages(steps.QUESTION)
    told = {"model": steps.CALLER, "tools": [steps.TOOL]}
    asked = client.chat.completions.create(messages=question, **told).choices[0].message
    call = asked.tool_calls[0]
    result = {"role": "tool", "content": "5", "tool_call_id": call.id}
    answer = client.chat.completions.create(messages=[*question, asked, result], **told).choices[0].message
    arguments = json.loads(call.function.arguments)
    return {"name": call.function.name, "arguments": arguments, "answer": answer.content}


def complete() -> str:
    """Use the older route, which takes a bare prompt."""
    text: str = client.completions.create(model=steps.FIVE, prompt=steps.GO).choices[0].text
    return text


def respond() -> str:
    """Use the newer route in one piece."""
    text: str = client.responses.create(model=steps.FIVE, input=steps.GO).output_text
    return text


def deltas(model: str) -> Iterator[str]:
    """Use the newer route piece by piece; its last event must say that it is complete."""
    last = None
    for event in client.responses.create(model=model, input=steps.GO, stream=True):
        last = event.type
        if last == "response.output_text.delta":
            yield event.delta
    if last != "response.completed":
        yield f"the last event is {last}"


def embed() -> list[list[float]]:
    """Return a vector for each text."""
    data = client.embeddings.create(model=steps.EMBED, input=steps.TEXTS).data
    return [entry.embedding for entry in data]


steps.run(
    {
        "chat": lambda: chat(steps.FIVE).content,
        "stream": lambda: list(streamed(steps.FIVE)),
        "complete": complete,
        "respond": respond,
        "respond_streamed": lambda: list(deltas(steps.FIVE)),
        "json": as_object,
        "tools": tools,
        "embed": embed,
        "models": lambda: [model.id for model in client.models.list()],
        "unknown": lambda: chat(steps.UNKNOWN).content,
        "killed_complete": lambda: steps.until_the_end(
            client.completions.create(model=steps.LONG, prompt=steps.GO, stream=True)
        ),
        "killed_respond": lambda: steps.until_the_end(deltas(steps.LONG)),
        "killed": lambda: steps.until_the_end(streamed(steps.LONG)),
    }
)
