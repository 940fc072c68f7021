"""LangGraph: supervisor, coder and auditor, each with a model of its own, and an agent with a tool."""

from __future__ import annotations

import operator
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from tests.clients.programs import steps

ROLES = ("supervisor", "coder", "auditor")


class Talk(TypedDict):
    """What the nodes share."""

    messages: Annotated[list[AnyMessage], operator.add]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def speaker(role: str, name: str) -> Callable[[Talk], dict[str, Any]]:
    """Return a node that lets a model speak in its role."""
    model = ChatOllama(model=name, base_url=steps.URL)

    def speak(talk: Talk) -> dict[str, Any]:
        told = [SystemMessage(f"You are the {role}."), *talk["messages"]]
        return {"messages": [AIMessage(model.invoke(told).content, name=role)]}

    return speak


def chain_of(roles: dict[str, str]) -> Any:
    """Return a graph in which each role speaks after the other."""
    graph: Any = StateGraph(Talk)
    for role, name in roles.items():
        graph.add_node(role, speaker(role, name))
    order = [START, *roles, END]
    for one, next_one in pairwise(order):
        graph.add_edge(one, next_one)
    return graph.compile()


def ask(graph: Any, text: str) -> list[Any]:
    """Return the messages of a run, the question left out."""
    messages: list[Any] = graph.invoke({"messages": [HumanMessage(text)]})["messages"]
    return messages[1:]


def chain() -> list[tuple[str, str]]:
    """Let the three work."""
    said = ask(chain_of({role: role for role in ROLES}), "Write a function that adds.")
    return [(message.name, message.content) for message in said]


def tools() -> dict[str, Any]:
    """Let the model call a tool, which the graph carries out."""
    model = ChatOllama(model=steps.CALLER, base_url=steps.URL).bind_tools([add])
    graph: Any = StateGraph(Talk)
    graph.add_node("agent", lambda talk: {"messages": [model.invoke(talk["messages"])]})
    graph.add_node("tools", ToolNode([add]))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", tools_condition)
    graph.add_edge("tools", "agent")
    asked, result, answer = ask(graph.compile(), steps.QUESTION)
    if result.content != "5":
        raise RuntimeError(f"the tool said {result.content}")
    call = asked.tool_calls[0]
    return {"name": call["name"], "arguments": call["args"], "answer": answer.content}


def streamed(name: str) -> Any:
    """Return the tokens of a graph's run."""
    graph = chain_of({"one": name})
    run = graph.stream({"messages": [HumanMessage(steps.GO)]}, stream_mode="messages")
    return (chunk.content for chunk, about in run if chunk.type == "AIMessageChunk")


steps.run(
    {
        "chat": lambda: ask(chain_of({"one": steps.FIVE}), steps.GO)[0].content,
        "stream": lambda: list(streamed(steps.FIVE)),
        "tools": tools,
        "chain": chain,
        "unknown": lambda: ask(chain_of({"one": steps.UNKNOWN}), steps.GO)[0].content,
        "killed": lambda: steps.until_the_end(streamed(steps.LONG)),
    }
)
