"""Two real Ollamas with stores of their own behind one gateway, and the real `ollama` command before it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ollama

from supervisor.contract.config import ExternalWorker
from tests.support.gateway import Bench, gateway
from tests.support.models import counting_model
from tests.support.ollama_store import BINARY, NEEDS_OLLAMA, ask, server
from tests.support.registry import registry

pytestmark = NEEDS_OLLAMA

PATIENCE_S: Final = 30.0


@dataclass(frozen=True)
class Two:
    """What a test needs of them."""

    bench: Bench
    ports: tuple[int, int]
    home: Path

    def names(self) -> list[set[str]]:
        """Return what each lists."""
        answers = (json.loads(ask(port, "/api/tags")[1]) for port in self.ports)
        return [{row["name"] for row in answer["models"]} for answer in answers]

    async def command(self, *words: str) -> tuple[int, str]:
        """Run `ollama` against the gateway and return its exit status and what it said."""
        environ = {
            "HOME": str(self.home),
            "OLLAMA_HOST": self.bench.url.removeprefix("http://"),
            "PATH": os.environ["PATH"],
        }
        process = await asyncio.create_subprocess_exec(
            BINARY,
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environ,
            cwd=self.home,
        )
        said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        return process.returncode or 0, said.decode()


@asynccontextmanager
async def two_ollamas(directory: Path) -> AsyncIterator[Two]:
    """Run them, empty."""
    (directory / "cli").mkdir()
    with ExitStack() as stack:
        ports = [stack.enter_context(server(directory / name / "store")) for name in ("near", "far")]
        workers = [
            ExternalWorker.model_validate(
                {"name": name, "url": f"http://127.0.0.1:{port}", "memory": "1GiB", "max_loaded_models": 2}
            )
            for name, port in zip(("near", "far"), ports, strict=True)
        ]
        async with gateway(directory, external=workers) as bench:
            await _until_both_are_known(bench)
            yield Two(bench, (ports[0], ports[1]), directory / "cli")


async def _until_both_are_known(bench: Bench) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await _ready(bench) < 2:  # noqa: ASYNC110 -- another program's state has no event
            await asyncio.sleep(0.02)


async def _ready(bench: Bench) -> int:
    async with bench.http.get(f"{bench.url}/corral/health") as response:
        return int((await response.json())["workers_ready"])


async def test_the_command_creates_copies_and_deletes_in_both_stores(tmp_path: Path) -> None:
    """As it does with one server; what it sees is there at once."""
    async with two_ollamas(tmp_path) as two:
        counting_model(two.home)
        (two.home / "Modelfile").write_text("FROM ./count.gguf\n")
        status, said = await two.command("create", "count", "-f", "Modelfile")
        assert status == 0, said
        assert two.names() == [{"count:latest"}] * 2
        assert (await two.command("cp", "count", "other"))[0] == 0
        assert two.names() == [{"count:latest", "other:latest"}] * 2
        status, said = await two.command("rm", "count", "other")
        assert status == 0, said
        assert two.names() == [set()] * 2
        status, said = await two.command("rm", "count")
        assert (status, "model 'count' not found" in said) == (1, True)


async def test_the_command_and_the_library_pull_into_both_stores(tmp_path: Path) -> None:
    """One bar a layer, success once, at the end."""
    async with two_ollamas(tmp_path) as two:
        weights = counting_model(tmp_path)
        with registry() as shop:
            name = shop.add("count", weights).name
            client = ollama.AsyncClient(two.bench.url)
            steps = [step async for step in await client.pull(name, insecure=True, stream=True)]
            await client.close()  # type: ignore[no-untyped-call]  # the library left it bare
            assert [step.status for step in steps].index("success") == len(steps) - 1
            totals: dict[str, set[Any]] = {}
            for step in steps:
                if step.digest:
                    totals.setdefault(step.digest, set()).add(step.total)
            assert all(len(seen) == 1 for seen in totals.values())
            assert two.names() == [{name}] * 2
            other = shop.add("other", weights.read_bytes() + bytes(8)).name
            status, said = await two.command("pull", "--insecure", other)
            assert (status, "success" in said) == (0, True)
            assert two.names() == [{name, other}] * 2


async def test_a_pull_that_one_store_refuses_says_which(tmp_path: Path) -> None:
    """The other one has the model; a disk that is full is tried here by a directory in the file's place."""
    async with two_ollamas(tmp_path) as two:
        with registry() as shop:
            model = shop.add("count", counting_model(tmp_path))
            blob = tmp_path / "far" / "store" / "blobs" / f"{model.weights.replace(':', '-')}-partial"
            blob.mkdir(parents=True)
            async with two.bench.http.post(
                f"{two.bench.url}/api/pull", json={"model": model.name, "insecure": True}
            ) as response:
                lines = [json.loads(line) for line in (await response.text()).splitlines()]
            assert lines[-1]["error"].startswith("far: ")
            assert lines[-1]["error"].endswith("(done on near)")
            assert {"status": "success"} not in lines
            assert two.names() == [{model.name}, set()]
