"""CrewAI: a crew of supervisor, coder and auditor, each with a model of its own, and an agent with a tool."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from crewai import LLM, Agent, Crew, Task
from crewai.events import LLMStreamChunkEvent, crewai_event_bus
from crewai.tools import tool
from pydantic import BaseModel

from tests.clients.programs import steps

ROLES = ("supervisor", "coder", "auditor")
called: list[dict[str, int]] = []


class Seen(BaseModel):
    """The object that the model answers with."""

    colour: str
    count: int


@tool("add")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    called.append({"a": a, "b": b})
    return a + b


def model(name: str, **more: Any) -> Any:
    """Return a model of Corral's, which CrewAI takes for an Ollama."""
    return LLM(model=f"ollama/{name}", base_url=steps.URL, **more)


def agent(role: str, name: str, tools: list[Any]) -> Any:
    """Return an agent."""
    return Agent(role=role, goal="Good code", backstory="One of three.", llm=model(name), tools=tools)


def chain() -> list[tuple[str, str]]:
    """Let the three work, each on what the one before said."""
    agents = [agent(role, role, []) for role in ROLES]
    tasks: list[Any] = []
    for one in agents:
        work = f"Do the {one.role}'s part."
        tasks.append(Task(description=work, expected_output="Text", agent=one, context=tasks[-1:] or None))
    done = Crew(agents=agents, tasks=tasks).kickoff()
    return [(output.agent, output.raw) for output in done.tasks_output]


def tools() -> dict[str, Any]:
    """Let an agent use a tool."""
    one = agent("adder", steps.CALLER, [add])
    task = Task(description=steps.QUESTION, expected_output="A number", agent=one)
    answer = Crew(agents=[one], tasks=[task]).kickoff().raw
    return {"name": "add", "arguments": called[0], "answer": answer}


def as_object() -> Any:
    """Ask for an answer of a form."""
    answer = model(steps.JSON, response_format=Seen).call(steps.GO)
    return answer.model_dump() if isinstance(answer, Seen) else json.loads(answer)


def listening(name: str, hear: Callable[[str], None]) -> Any:
    """Return the whole answer; its pieces are heard as they come."""
    with crewai_event_bus.scoped_handlers():

        @crewai_event_bus.on(LLMStreamChunkEvent)
        def _(_source: Any, event: Any) -> None:
            hear(event.chunk)

        answer = model(name, stream=True).call(steps.GO)
        crewai_event_bus.flush()
    return answer


def pieces() -> list[str]:
    """Return the pieces of an answer."""
    heard: list[str] = []
    listening(steps.FIVE, heard.append)
    return heard


def killed() -> Any:
    """Read a long answer."""
    heard: list[str] = []

    def hear(piece: str) -> None:
        heard.append(piece)
        if len(heard) == 1:
            steps.begun()

    return listening(steps.LONG, hear)


steps.run(
    {
        "chat": lambda: model(steps.FIVE).call(steps.GO),
        "stream": pieces,
        "json": as_object,
        "tools": tools,
        "chain": chain,
        "unknown": lambda: model(steps.UNKNOWN).call(steps.GO),
        "killed": killed,
    }
)
