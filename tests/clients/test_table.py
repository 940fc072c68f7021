"""The README says of clients what the tests hold."""

from __future__ import annotations

from pathlib import Path

from tests.clients.catalogue import CLIENTS, ENVIRONMENTS, table

ROOT = Path(__file__).parents[2]


def test_the_readme_has_the_table_of_clients() -> None:
    """It is made of the catalogue, word for word."""
    assert table() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_programs_and_catalogue_agree() -> None:
    """Each client has a program, an environment, and an exception for each step that is to fail."""
    programs = {path.stem for path in (ROOT / "tests" / "clients" / "programs").glob("*.*")}
    assert {client.program for client in CLIENTS} == programs - {"steps", "rag", "__init__"}
    assert {client.environment for client in CLIENTS} <= set(ENVIRONMENTS)
    for client in CLIENTS:
        assert set(client.raises) == {step for step in client.steps if step.startswith(("unknown", "killed"))}
