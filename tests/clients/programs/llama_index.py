"""`llama-index-llms-ollama`: its model, a tool, an object of a schema; and its embeddings."""

from __future__ import annotations

from typing import Any

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.llms.ollama import Ollama
from pydantic import BaseModel

from tests.clients.programs import steps

GO = [ChatMessage(role="user", content=steps.GO)]


class Seen(BaseModel):
    """The object that the model answers with."""

    colour: str
    count: int


def model(name: str) -> Any:
    """Return a model as the package makes it: with the whole context, and a limit of 30 s."""
    return Ollama(model=name, base_url=steps.URL)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def tools() -> dict[str, Any]:
    """Let the model call a tool, give it the result, and hear what it says then."""
    question = ChatMessage(role="user", content=steps.QUESTION)
    tool = FunctionTool.from_defaults(add)
    caller = model(steps.CALLER)
    asked = caller.chat_with_tools([tool], chat_history=[question])
    call = caller.get_tool_calls_from_response(asked)[0]
    result = ChatMessage(
        role="tool",
        content=str(tool(**call.tool_kwargs)),
        additional_kwargs={"tool_call_id": call.tool_id, "name": "add"},
    )
    answer = caller.chat_with_tools([tool], chat_history=[question, asked.message, result])
    return {"name": call.tool_name, "arguments": call.tool_kwargs, "answer": answer.message.content}


def as_object() -> Any:
    """Ask for an answer of a form; it comes back as the object."""
    return model(steps.JSON).as_structured_llm(Seen).chat(GO).raw.model_dump()


def streamed(name: str) -> Any:
    """Return the pieces of an answer."""
    return (part.delta for part in model(name).stream_chat(GO))


def embed() -> Any:
    """Return a vector for each text."""
    return OllamaEmbedding(model_name=steps.EMBED, base_url=steps.URL).get_text_embedding_batch(steps.TEXTS)


steps.run(
    {
        "chat": lambda: model(steps.FIVE).chat(GO).message.content,
        "stream": lambda: list(streamed(steps.FIVE)),
        "complete": lambda: model(steps.FIVE).complete(steps.GO).text,
        "json": as_object,
        "tools": tools,
        "embed": embed,
        "unknown": lambda: model(steps.UNKNOWN).chat(GO).message.content,
        "killed": lambda: steps.until_the_end(streamed(steps.LONG)),
    }
)
