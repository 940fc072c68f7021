"""What an embedded worker remembers of names and files that clients asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp

from supervisor.contract.names import ModelName
from supervisor.engines.embedded.leases import Leases
from supervisor.engines.embedded.residency import Load, Residency
from supervisor.engines.embedded.runners import Runner
from supervisor.engines.embedded.settings import Settings
from supervisor.engines.embedded.worker import Worker
from supervisor.models.digests import Digests
from supervisor.models.facts import ModelFacts
from supervisor.models.library import Library
from supervisor.models.model import FileId, ModelFile, StoreEntry
from supervisor.models.modelfile import Modelfile

FACTS = ModelFacts("llama", 1, "F16", 4096, 100, "{{ messages }}", embeds=False, info={})


class InstantRunner(Runner):
    """A runner without a process; its end is whoever's who has `exited`."""

    def __init__(self, exited: Callable[[Runner, int], None]) -> None:
        """Nothing is started."""
        self._exited = exited
        self._alive = True
        self.address = "http://127.0.0.1:1"
        self.gone = asyncio.Event()

    @property
    def alive(self) -> bool:
        """Until it is killed."""
        return self._alive

    @property
    def pid(self) -> int:
        """Of nobody."""
        return 0

    @property
    def last_words(self) -> str:
        """None."""
        return ""

    def is_ending(self) -> bool:
        """Whether it was killed."""
        return not self._alive

    async def wait_ready(self) -> None:
        """Be ready."""

    def measure_bytes(self) -> int | None:
        """Take nothing."""
        return None

    def die(self) -> None:
        """Be dead, which nobody has seen yet."""
        self._alive = False

    def kill(self) -> None:
        """End, and have it seen in a moment."""
        self.die()
        asyncio.get_running_loop().call_soon(self.is_seen_dead)

    def is_seen_dead(self) -> None:
        """Have its end known."""
        self._exited(self, 0)


async def start(load: Load, on_exit: Callable[[Runner, int], None]) -> Runner:  # noqa: ARG001 -- all are alike
    """Start a runner of the kind above."""
    return InstantRunner(on_exit)


def model(name: str, *, file: str = "/weights") -> ModelFile:
    """Return a model of a store; what is in a file is told by its path."""
    entry = StoreEntry(
        digest=name,
        weights=f"sha256:{file}",
        size_bytes=1,
        modified_ns=1,
        modelfile=Modelfile(),
        template=None,
    )
    return ModelFile(ModelName.parse(name), FileId(file, 1, 1), FACTS, entry)


@asynccontextmanager
async def a_worker() -> AsyncIterator[Worker]:
    """Yield one with room for two models."""
    settings = Settings(
        host="127.0.0.1",
        port=1,
        num_parallel=2,
        max_loaded_models=2,
        max_queue=10,
        context_length=64,
        keep_alive_s=300.0,
        gguf_dir="",
        store="",
        memory_bytes=10**12,
    )
    core = Residency(max_loaded=2, max_queue=10, memory_bytes=settings.memory_bytes, keep_alive_s=300.0)
    async with aiohttp.ClientSession() as session:
        worker = Worker(
            settings=settings,
            library=Library(None, None, lambda *_, **__: None),
            digests=Digests(None),
            leases=Leases(core, start, lambda *_, **__: None),
            session=session,
        )
        try:
            yield worker
        finally:
            worker.leases.close()
            worker.digests.close()


def remembered(worker: Worker) -> int:
    """Return how many entries it keeps."""
    return len(worker._weights_in) + len(worker._asked_as)


def served(worker: Worker) -> set[str]:
    """Return the names that /api/ps tells."""
    rows = worker.leases.rows()
    return {one.name.short for row in rows for one in worker.served_as(row.resident)}


async def test_models_that_come_and_go_leave_nothing() -> None:
    """A client may create, ask and delete for ever."""
    async with a_worker() as worker:
        for number in range(50):
            async with worker.lease(model(f"m{number}", file=f"/{number}"), {}, None):
                pass
        assert remembered(worker) <= 6


async def test_files_that_are_only_deleted_leave_nothing() -> None:
    """Nobody asked these for anything else."""
    async with a_worker() as worker:
        for number in range(50):
            worker.lost_name(model(f"m{number}", file=f"/{number}"))
        assert remembered(worker) <= 2


async def test_names_that_come_and_go_over_loaded_weights_leave_nothing() -> None:
    """While another name keeps these in use."""
    async with a_worker() as worker, worker.lease(model("kept"), {}, None):
        for number in range(50):
            copy = model(f"copy{number}")
            async with worker.lease(copy, {}, None):
                pass
            worker.lost_name(copy)
        assert remembered(worker) <= 4
        assert served(worker) == {"kept:latest"}


async def test_what_has_a_runner_is_known_by_all_names_that_it_was_asked_for() -> None:
    """Whatever else was asked for since."""
    async with a_worker() as worker:
        for name in ("one", "two"):
            async with worker.lease(model(name), {}, None):
                pass
        async with worker.lease(model("one"), {}, None):
            for number in range(5):
                async with worker.lease(model(f"m{number}", file=f"/{number}"), {}, None):
                    pass
        assert {"one:latest", "two:latest"} <= served(worker)


async def test_request_that_lost_its_runner_keeps_its_name_until_it_has_another() -> None:
    """It asks again, and what it is served by must be told under that name."""
    async with a_worker() as worker:
        async with worker.lease(model("one"), {}, None):
            (row,) = worker.leases.rows()
        runner = row.runner
        assert isinstance(runner, InstantRunner)
        runner.die()
        asks = worker.lease(model("one"), {}, None)
        enters = asyncio.create_task(asks.__aenter__())
        await asyncio.sleep(0)
        runner.is_seen_dead()
        async with worker.lease(model("other", file="/other"), {}, None):
            await enters
            assert served(worker) == {"one:latest", "other:latest"}
        await asks.__aexit__(None, None, None)


async def test_copy_with_the_same_weights_shares_the_runner_after_others_were_asked_for() -> None:
    """Or there would be two runners over the same weights."""
    async with a_worker() as worker, worker.lease(model("one"), {}, None):
        worker.lost_name(model("other", file="/other"))
        moved = replace(model("copy"), id=FileId("/elsewhere", 1, 1))
        async with worker.lease(moved, {}, None):
            assert served(worker) == {"one:latest", "copy:latest"}
            assert len(worker.leases.rows()) == 1
