"""Clients as people use them, unchanged but for the URL, against a whole Corral.

Each client of the catalogue is a program that is run once; these tests look at what it saw.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.catalogue import CLIENTS, ENVIRONMENTS, Client
from tests.support.clients import ANSWERS, Seen
from tests.support.models import TOOL_ANSWER, TOOL_CALL

INSTALLING_S = 900
ASKING_S = 300
"""All clients of an environment are run when the first of its tests asks for what they saw."""


def clients_with(step: str) -> pytest.MarkDecorator:
    """Run a test for each client that takes the step; `slow` where packages are installed for it."""
    return pytest.mark.parametrize("client", [_case(c) for c in CLIENTS if step in c.steps])


def _case(client: Client) -> Any:
    installs = bool(ENVIRONMENTS[client.environment])
    slow = (pytest.mark.slow, pytest.mark.timeout(INSTALLING_S))
    marks = slow if installs else (pytest.mark.timeout(ASKING_S),)
    return pytest.param(client, id=client.program, marks=marks)


def saw(seen: Seen, step: str) -> Any:
    """Return what a step saw; it must not have raised."""
    assert "raised" not in seen[step], seen[step]
    return seen[step]["saw"]


def raised(seen: Seen, step: str, client: Client) -> str:
    """Return the text of what a step raised; it must be the client's own exception."""
    assert client.raises[step] in seen[step].get("raised", ()), seen[step]
    text: str = seen[step]["text"]
    return text


@clients_with("chat")
def test_chat_in_one_piece(seen: Seen) -> None:
    """The whole answer is there."""
    assert saw(seen, "chat") == "1 2 3 4 5"


@clients_with("stream")
def test_chat_streams(seen: Seen) -> None:
    """The answer comes in pieces; nothing is lost, repeated or reordered."""
    pieces = saw(seen, "stream")
    assert "".join(pieces) == "1 2 3 4 5"
    assert len(pieces) >= 5


@clients_with("complete")
def test_a_bare_prompt_is_completed(seen: Seen) -> None:
    """The older routes."""
    assert saw(seen, "complete").split() == ["1", "2", "3", "4", "5"]


@clients_with("respond")
def test_responses_in_one_piece(seen: Seen) -> None:
    """OpenAI's newer route."""
    assert saw(seen, "respond") == "1 2 3 4 5"


@clients_with("respond_streamed")
def test_responses_stream(seen: Seen) -> None:
    """Its deltas, up to the event that says it is complete."""
    pieces = saw(seen, "respond_streamed")
    assert "".join(pieces) == "1 2 3 4 5"
    assert len(pieces) >= 5


@clients_with("json")
def test_an_answer_keeps_to_the_schema_that_was_asked_for(seen: Seen) -> None:
    """As text, or as the object that the client makes of it."""
    value = saw(seen, "json")
    assert (json.loads(value) if isinstance(value, str) else value) == json.loads(ANSWERS["json"])


@clients_with("tools")
def test_a_tool_is_called_and_its_result_heard(seen: Seen) -> None:
    """The call arrives with its arguments; the next answer knows of the result."""
    assert saw(seen, "tools") == TOOL_CALL | {"answer": TOOL_ANSWER}


@clients_with("embed")
def test_texts_become_vectors(seen: Seen) -> None:
    """One vector a text, all of the model's width, and different texts differ."""
    vectors = saw(seen, "embed")
    assert [len(vector) for vector in vectors] == [64, 64]
    assert vectors[0] != vectors[1]


@clients_with("models")
def test_models_are_listed(seen: Seen) -> None:
    """Under the names by which they can be asked for."""
    assert {"five:latest", "embed:latest", "caller:latest"} <= set(saw(seen, "models"))


@clients_with("count_tokens")
def test_tokens_of_a_prompt_are_counted(seen: Seen, engine: str) -> None:
    """A short question is a few tokens; Ollama has no such route, and then the refusal says who has."""
    if engine == "embedded":
        assert 0 < saw(seen, "count_tokens") < 50
    else:
        assert "embedded" in seen["count_tokens"]["text"], seen["count_tokens"]


@clients_with("chain")
def test_three_agents_work_one_after_the_other(seen: Seen) -> None:
    """Each speaks with a model of its own, and is handed what those before it said."""
    said = saw(seen, "chain")
    assert [role for role, text in said] == ["supervisor", "coder", "auditor"]
    for role, text in said:
        assert text
        assert ANSWERS[role].endswith(text)


@clients_with("gather")
def test_questions_asked_at_once_are_all_answered(seen: Seen) -> None:
    """More of them than there are slots."""
    assert saw(seen, "gather") == ["1 2 3 4 5"] * 12


@clients_with("routes")
def test_other_routes_of_a_client_lead_to_the_same_answer(seen: Seen) -> None:
    """A client that speaks several APIs may use any of them."""
    assert saw(seen, "routes") == ["1 2 3 4 5"] * 3


@clients_with("shown")
def test_a_model_is_shown(seen: Seen) -> None:
    """With what its header tells."""
    assert "embedding length" in saw(seen, "shown")


@clients_with("loaded")
def test_a_model_is_loaded_until_it_is_stopped(seen: Seen) -> None:
    """Corral's lists say what its workers hold."""
    loaded = saw(seen, "loaded")
    assert "five:latest" in loaded["before"]
    assert "five:latest" not in loaded["after"]


@clients_with("manage")
def test_a_model_is_made_copied_and_deleted(seen: Seen) -> None:
    """Each change is seen at once; the copy answers with the parameters that it was made with."""
    managed = saw(seen, "manage")
    assert managed["answer"] == "1 2 3"
    assert {"made:latest", "copied:latest"} <= set(managed["there"])
    assert not {"made:latest", "copied:latest"} & set(managed["after"])


@clients_with("unknown")
def test_an_unknown_model_raises_the_clients_own_error(client: Client, seen: Seen) -> None:
    """It names the model."""
    assert "nobody" in raised(seen, "unknown", client)


@clients_with("killed")
def test_a_worker_killed_mid_stream_raises(client: Client, seen: Seen) -> None:
    """No client takes the part that it has for the whole, by whatever route it streams."""
    for step in client.raises:
        if step.startswith("killed"):
            raised(seen, step, client)
