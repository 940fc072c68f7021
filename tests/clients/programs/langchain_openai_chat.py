"""`langchain-openai`: its chat model, a tool, an object of a schema, and its embeddings."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.clients.programs import steps

REACH: Any = {"base_url": f"{steps.URL}/v1", "api_key": "none", "max_retries": 0}


def model(name: str, **more: Any) -> Any:
    """Return a chat model."""
    return ChatOpenAI(model=name, **REACH, **more)


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


def embed() -> Any:
    """Return a vector for each text; the check of lengths needs a tokenizer of OpenAI's from the net."""
    embeddings = OpenAIEmbeddings(model=steps.EMBED, check_embedding_ctx_length=False, **REACH)
    return embeddings.embed_documents(steps.TEXTS)


def respond() -> Any:
    """Use OpenAI's newer route."""
    return model(steps.FIVE, use_responses_api=True).invoke(steps.GO).text


steps.run(
    {
        "chat": lambda: model(steps.FIVE).invoke(steps.GO).content,
        "stream": lambda: list(streamed(steps.FIVE)),
        "json": as_object,
        "tools": tools,
        "embed": embed,
        "respond": respond,
        "unknown": lambda: model(steps.UNKNOWN).invoke(steps.GO).content,
        "killed": lambda: steps.until_the_end(streamed(steps.LONG)),
    }
)
