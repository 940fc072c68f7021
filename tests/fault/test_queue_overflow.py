"""More requests than the queue takes: each surface says so in its own shape, and nobody else is lost."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from pathlib import Path
from typing import Any, Final

from gateway.http.app import surface_of
from tests.support.aftermath import ask_gateway
from tests.support.fronting import Front, front
from tests.support.gateway import until
from tests.support.speaking_worker import SpeakingWorker

QUEUE: Final = 3
CHAT: Final[dict[str, Any]] = {"messages": [{"role": "user", "content": "go"}]}
ASKED: Final[dict[str, dict[str, Any]]] = {
    "/api/generate": {"prompt": "go"},
    "/api/chat": CHAT,
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"input": "go"},
    "/v1/messages": {**CHAT, "max_tokens": 5},
}


async def test_whoever_finds_the_queue_full_is_told_when_to_come_again(tmp_path: Path) -> None:
    """One answer runs, three wait, all others get 503; the four are answered to their end."""
    worker = SpeakingWorker("w0", slots=1, loaded={"count"}, script=deque(["hold"]))
    async with front(tmp_path, worker, max_queue=QUEUE) as corral, asyncio.timeout(30):
        served = [asyncio.create_task(corral.ask(stream=True)) for _ in range(1 + QUEUE)]
        await until(lambda: waiting(corral) == QUEUE, "the queue is full")
        refused = {path: await corral.ask(path, **body) for path, body in ASKED.items()}
        for path, (status, text, headers) in refused.items():
            assert (path, status) == (path, 503)
            assert 1 <= int(headers["Retry-After"]) <= 30
            message = "server busy"
            shape = json.loads(surface_of(path).error(503, message))
            assert shape_of(json.loads(text)) >= shape_of(shape), f"{path}: {text}"
            assert message in text
        assert waiting(corral) == QUEUE
        worker.hold.set()
        assert [(status, '"done":true' in text) for status, text, _ in await asyncio.gather(*served)] == [
            (200, True)
        ] * (1 + QUEUE)
        await corral.assert_all_is_back()


def waiting(corral: Front) -> int:
    """Return how many requests wait in the gateway."""
    return len(ask_gateway(corral.runtime_dir, "/corral/queue")["waiting"])


def shape_of(error: dict[str, Any]) -> set[str]:
    """Return the keys of an error, those inside it too."""
    inner = error.get("error")
    return {*error, *(inner if isinstance(inner, dict) else ())}
