"""`langchain-ollama`: its chat model, a tool, an object of a schema, and its embeddings."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings

from tests.clients.programs import steps


def model(name: str) -> Any:
    """Return a chat model."""
    return ChatOllama(model=name, base_url=steps.URL)


def tools() -> dict[str, Any]:
    """Let the model call a tool, give it the result, and hear what it says then."""
    bound = model(steps.CALLER).bind_tools([steps.TOOL])
    question = HumanMessage(steps.QUESTION)
    asked = bound.invoke([question])
    call = asked.tool_calls[0]
    answer = bound.invoke([question, asked, ToolMessage("5", tool_call_id=call["id"])])
    return {"name": call["name"], "arguments": call["args"], "answer": answer.content}


def as_object() -> Any:
    """Ask for an answer of a form; it comes back as the object."""
    form = steps.SCHEMA | {"title": "seen", "description": "what was seen"}
    return model(steps.JSON).with_structured_output(form, method="json_schema").invoke(steps.GO)


def streamed(name: str) -> Any:
    """Return the pieces of an answer."""
    return (chunk.content for chunk in model(name).stream(steps.GO))


steps.run(
    {
        "chat": lambda: model(steps.FIVE).invoke(steps.GO).content,
        "stream": lambda: list(streamed(steps.FIVE)),
        "json": as_object,
        "tools": tools,
        "embed": lambda: OllamaEmbeddings(model=steps.EMBED, base_url=steps.URL).embed_documents(steps.TEXTS),
        "unknown": lambda: model(steps.UNKNOWN).invoke(steps.GO).content,
        "killed": lambda: steps.until_the_end(streamed(steps.LONG)),
    }
)
