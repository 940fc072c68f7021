"""A fake worker in a process of its own: arguments NAME HOST [ACTION…].

Its model `count` is loaded; the load of another one never ends.

Prints its port when it listens, and then one line with the number of running answers whenever that changed.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque

from tests.support.fake_ollama import FakeOllama


async def main(name: str, host: str, *actions: str) -> None:
    """Serve until killed."""
    actions_left, never = deque(actions), asyncio.Event()
    worker = FakeOllama(name, host=host, script=actions_left, loaded={"count"}, load_gate=never)
    await worker.start()
    print(worker.port, flush=True)  # noqa: T201 -- the parent reads it
    running = 0
    while True:
        if len(worker.running) != running:
            running = len(worker.running)
            print(running, flush=True)  # noqa: T201 -- the parent reads it
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
