"""Runs each environment's clients once an engine and keeps what they saw for all tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.clients.catalogue import CLIENTS, Client
from tests.support.client_environments import NotInstalled, command
from tests.support.clients import Seen, make_models, watch
from tests.support.corral import corral
from tests.support.ollama_store import ENGINES

Reports = Callable[[str, str], dict[str, Seen]]


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """What all clients of an environment saw over an engine; they are run when that is first asked."""

    @cache
    def attempt(environment: str, engine: str) -> dict[str, Seen] | Exception:
        try:
            return run(environment, engine)
        except (NotInstalled, AssertionError) as reason:  # kept, so that no test tries again
            return reason

    def run(environment: str, engine: str) -> dict[str, Seen]:
        clients = [client for client in CLIENTS if client.environment == environment]
        commands = {client.name: command(client.environment, client.program) for client in clients}
        directory = tmp_path_factory.mktemp("clients")
        make_models(directory / "models")
        with corral(directory, engine=engine) as running:
            return {name: watch(argv, running) for name, argv in commands.items()}

    def reports(environment: str, engine: str) -> dict[str, Seen]:
        attempted = attempt(environment, engine)
        if isinstance(attempted, Exception):
            raise attempted
        return attempted

    return reports


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The engine of Corral's workers."""
    name: str = request.param
    return name


@pytest.fixture
def seen(client: Client, engine: str, reports: Reports) -> Seen:
    """What this client saw over this engine."""
    try:
        return reports(client.environment, engine)[client.name]
    except NotInstalled as reason:
        pytest.skip(str(reason))
