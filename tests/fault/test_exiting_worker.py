"""A worker that exits at once, for ever: it is given up for a while, and the others serve."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, Final

import ollama
import pytest

from supervisor.contract.fleet import WorkerState
from tests.support.aftermath import assert_all_is_back
from tests.support.corral import Corral, corral
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.supervisor import eventually, supervisor

GO: Final = [{"role": "user", "content": "go"}]
EXITS: Final = {"embedded": {"PYTHONHOME": "/nowhere"}, "ollama": {"GOMEMLIMIT": "nonsense"}}
"""With which no interpreter, and no program in Go, starts."""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
async def test_the_others_serve_everybody_meanwhile(tmp_path: Path, engine: str) -> None:
    """No client notices; what `corral ps` tells is how it ended and when it is tried again."""
    counting_model(tmp_path / "models")
    workers = [{"name": "bad", "cores": "0", "env": EXITS[engine]}, {"name": "good", "cores": "1"}]
    with corral(tmp_path, engine=engine, workers=workers) as running:
        client = ollama.AsyncClient(running.url)
        for _ in range(3):
            replies = await asyncio.gather(
                *(client.chat("count", GO, options={"num_predict": 2}) for _ in range(4))
            )
            assert [reply.message.content for reply in replies] == ["1 2"] * 4
        await client.close()  # type: ignore[no-untyped-call]  # the library left it bare
        bad = await asyncio.to_thread(given_up, running)
        assert re.search(r"exited with status [12] \(crash 5\)", bad["reason"])
        await asyncio.to_thread(assert_all_is_back, running, but=["bad"])


def given_up(running: Corral) -> dict[str, Any]:
    """Return the worker once it is in quarantine."""

    def quarantined() -> dict[str, Any] | None:
        worker = running.worker("bad")
        return worker if worker["state"] == "quarantined" else None

    return eventually(quarantined, "the quarantine", within_s=40) or {}


def test_each_start_waits_longer_and_the_fifth_is_the_last_for_long(tmp_path: Path) -> None:
    """It never spins: five starts, and then a long rest."""
    policy = {"first_delay_s": 0.05, "jitter": 0.0}
    with supervisor(tmp_path, {"name": "a", "behaviour": "exit"}, {"name": "b"}, policy=policy) as corral_:
        corral_.wait_for("a", state=WorkerState.QUARANTINED)
        moves = [line for line in corral_.log() if line.get("worker") == "a"]
        assert [line["event"] for line in moves].count("starting") == 5
        corral_.wait_for("b", state=WorkerState.READY)
