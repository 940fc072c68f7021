"""`litellm` by its route to Ollama (`ollama_chat`), and once by those to OpenAI's and Anthropic's APIs."""

from __future__ import annotations

import json
from typing import Any

import litellm

from tests.clients.programs import steps

ROUTES: dict[str, dict[str, str]] = {
    f"ollama/{steps.FIVE}": {"api_base": steps.URL},
    f"openai/{steps.FIVE}": {"api_base": f"{steps.URL}/v1", "api_key": "none"},
    f"anthropic/{steps.FIVE}": {"api_base": steps.URL, "api_key": "none"},
}


def ask(model: str, messages: list[Any], **more: Any) -> Any:
    """Return an answer, or the chunks of one."""
    return litellm.completion(f"ollama_chat/{model}", messages, api_base=steps.URL, **more)


def chat(model: str, **more: Any) -> str:
    """Return the text of an answer in one piece."""
    text: str = ask(model, steps.messages(steps.GO), **more).choices[0].message.content
    return text


def streamed(model: str) -> Any:
    """Return the pieces of an answer."""
    chunks = ask(model, steps.messages(steps.GO), stream=True)
    return (chunk.choices[0].delta.content or "" for chunk in chunks)


def as_object() -> str:
    """Ask for an answer of a form."""
    form = {"type": "json_schema", "json_schema": {"name": "seen", "schema": steps.SCHEMA}}
    return chat(steps.JSON, response_format=form)


def tools() -> dict[str, Any]:
    """Let the model call a tool, give it the result, and hear what it says then."""
    question = steps.messages(steps.QUESTION)
    asked = ask(steps.CALLER, question, tools=[steps.TOOL]).choices[0].message
    call = asked.tool_calls[0]
    result = {"role": "tool", "content": "5", "tool_call_id": call.id, "name": "add"}
    answer = ask(steps.CALLER, [*question, asked.model_dump(), result], tools=[steps.TOOL])
    arguments = json.loads(call.function.arguments)
    return {"name": call.function.name, "arguments": arguments, "answer": answer.choices[0].message.content}


def embed() -> Any:
    """Return a vector for each text."""
    data = litellm.embedding(f"ollama/{steps.EMBED}", steps.TEXTS, api_base=steps.URL).data
    return [entry["embedding"] for entry in data]


def routes() -> list[str]:
    """Return what the same model says by the other routes."""
    told = steps.messages(steps.GO)
    answers = (litellm.completion(model, told, **reach) for model, reach in ROUTES.items())
    return [answer.choices[0].message.content for answer in answers]


steps.run(
    {
        "chat": lambda: chat(steps.FIVE),
        "stream": lambda: list(streamed(steps.FIVE)),
        "json": as_object,
        "tools": tools,
        "embed": embed,
        "routes": routes,
        "unknown": lambda: chat(steps.UNKNOWN),
        "killed": lambda: steps.until_the_end(streamed(steps.LONG)),
    }
)
