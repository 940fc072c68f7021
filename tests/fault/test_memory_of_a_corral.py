"""A model for which memory runs out: the kernel kills its runner, and everybody else is served.

Supervisor, gateway, worker and runners share a limit that the kernel enforces.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import ollama
import pytest

from tests.support.aftermath import all_comes_back
from tests.support.corral import CONFIG, Corral, corral
from tests.support.memory_cgroup import NoMemoryGroupError, memory_group
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.supervisor import eventually

ROOMY_BYTES: Final = 8 * 2**30
"""The limit when Corral looks how much there is."""
TIGHT_BYTES: Final = 900 * 2**20
"""The limit soon after that, as when others take their share."""
HUNGRY: Final = {"width": 512, "layers": 6, "feed_forward": 1024, "context": 2**17}
"""Of a model whose cache takes 1.6 GB with the whole of its context."""
TWO: Final = {"num_predict": 2, "temperature": 0}


@pytest.fixture(params=ENGINES)
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Corral]:
    """A small model, and one for which there is no room."""
    engine: str = request.param
    counting_model(tmp_path / "models", name="sound")
    counting_model(tmp_path / "models", name="hungry", **HUNGRY)
    changes: dict[str, Any] = {
        "workers": [{"name": "w0"}],
        "worker_defaults": {**CONFIG["worker_defaults"], "engine": engine, "num_parallel": 1},
        "models": {"hungry": {"context_length": HUNGRY["context"]}},
    }
    try:
        with (
            memory_group(ROOMY_BYTES) as group,
            corral(tmp_path, engine=engine, entering=group.entering, **changes) as it,
        ):
            group.limit(TIGHT_BYTES)
            yield it
    except NoMemoryGroupError as error:
        pytest.skip(str(error))


async def count_on(client: ollama.AsyncClient, model: str, numbers: str) -> list[str]:
    """Return the next two numbers."""
    return ((await client.generate(model, numbers, raw=True, options=TWO)).response or "").split()


async def test_a_runner_that_the_kernel_kills_takes_nobody_with_it(running: Corral) -> None:
    """Its client is told, the worker lives and has less memory from now on, and says why."""
    client = ollama.AsyncClient(running.url)
    before = running.worker("w0")
    with all_comes_back(running):
        assert await count_on(client, "sound", "1 2") == ["3", "4"]
        with pytest.raises(ollama.ResponseError) as refused:
            await count_on(client, "hungry", "1 2")
        assert refused.value.status_code == 500
        assert await count_on(client, "sound", "3 4") == ["5", "6"]
        await client.close()  # type: ignore[no-untyped-call]  # the library left it bare
    eventually(lambda: running.worker("w0")["withheld_bytes"], "less memory")
    after = running.worker("w0")
    assert after["pid"] == before["pid"]
    assert after["memory_bytes"] < before["memory_bytes"]
    assert "memory ran out" in after["condition"]
