"""What the gateway asks of a worker, asked of a real Ollama."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import aiohttp
import ollama
import pytest

from gateway.fleet.roster import ModelRow
from gateway.scheduling.names import Variant
from gateway.workers.client import WorkerClient, WorkerRefusedError
from tests.support.models import corrupt_model, counting_model, embedding_model
from tests.support.ollama_store import NEEDS_OLLAMA, ask, import_models, server

pytestmark = NEEDS_OLLAMA


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Ollama of four slots that holds two models at most."""
    directory = tmp_path_factory.mktemp("ollama")
    models = [counting_model(directory), embedding_model(directory), corrupt_model(directory)]
    import_models(directory / "store", *models, counting_model(directory, name="other", words=100))
    limits = {"OLLAMA_NUM_PARALLEL": "4", "OLLAMA_MAX_LOADED_MODELS": "2", "OLLAMA_CONTEXT_LENGTH": "2048"}
    with server(directory / "store", **limits) as port:
        system = {"model": "polite", "from": "count", "system": "Be polite.", "stream": False}
        assert ask(port, "/api/create", system)[0] == 200
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def worker(url: str) -> AsyncIterator[WorkerClient]:
    """The gateway's client of it, and nothing loaded."""
    async with aiohttp.ClientSession() as session:
        client = WorkerClient(url, session)
        for name in ("count", "embed", "other"):
            await client.unload(await row(client, name), embedding=name == "embed", slots=4)
        yield client
        await client.close()


async def row(worker: WorkerClient, name: str) -> ModelRow:
    """Return the model as the worker lists it."""
    rows = (await worker.tags())["models"]
    found = next(row for row in rows if row["name"] == f"{name}:latest")
    return ModelRow(found["name"], Variant(found["digest"]), found)


async def test_a_loaded_model_has_the_slots_that_were_asked_for(worker: WorkerClient) -> None:
    """Size and context are as /api/ps tells them."""
    count = await row(worker, "count")
    resident = (await worker.load(count, embedding=False, slots=4)).resident
    assert (resident.slots, resident.context_length) == (4, 2048)
    assert resident.size_bytes > count.size_bytes / 2
    assert await worker.residents(4) == {count.listed_as: resident}


async def test_an_embedding_model_has_one_slot(worker: WorkerClient) -> None:
    """It is loaded through /api/embed, for the other route refuses it; a new client finds out by itself."""
    embed = await row(worker, "embed")
    assert (await worker.details(embed)).embedding
    assert (await worker.load(embed, embedding=True, slots=4)).resident.slots == 1
    async with aiohttp.ClientSession() as session:
        stranger = WorkerClient(worker._base_url, session)
        assert (await stranger.residents(4))[embed.listed_as].slots == 1
        await stranger.close()


async def test_an_unload_waits_for_the_answers_under_way(worker: WorkerClient) -> None:
    """They end as they would have, and only then the model is gone."""
    count = await row(worker, "count")
    await worker.load(count, embedding=False, slots=4)
    client = ollama.AsyncClient(worker._base_url)
    options = {"num_predict": 300, "temperature": 0}
    stream = await client.generate("count", "1 2", raw=True, stream=True, options=options)
    first = await anext(aiter(stream))
    unloading = asyncio.create_task(worker.unload(count, embedding=False, slots=4))
    text = "".join([first.response or "", *[part.response or "" async for part in stream]])
    assert [int(word) for word in text.split()] == list(range(3, 303))
    await unloading
    assert await worker.residents(4) == {}
    await client.close()  # type: ignore[no-untyped-call]  # the library left it bare


async def test_a_file_that_cannot_be_loaded_is_refused_in_ollamas_words(worker: WorkerClient) -> None:
    """And it holds nothing of it afterwards."""
    with pytest.raises(WorkerRefusedError, match=r"\w+"):
        await worker.load(await row(worker, "corrupt"), embedding=False, slots=4)
    assert await worker.residents(4) == {}


async def test_a_model_that_ollama_evicted_by_itself_is_no_resident(worker: WorkerClient) -> None:
    """The third of three models where two have room."""
    names = ("count", "embed", "other")
    for name in names:
        await worker.load(await row(worker, name), embedding=name == "embed", slots=4)
    held = await worker.residents(4)
    assert len(held) == 2
    assert (await row(worker, "other")).listed_as in held


async def test_a_second_name_of_the_same_weights_is_loaded_with_the_first(worker: WorkerClient) -> None:
    """One runner serves both, Ollama lists it under the first name only, and /api/show tells the weights."""
    count, polite = await row(worker, "count"), await row(worker, "polite")
    assert (await worker.details(count)).weights == (await worker.details(polite)).weights != ""
    await worker.load(count, embedding=False, slots=4)
    after = await worker.load(polite, embedding=False, slots=4, or_listed_as=[count.listed_as])
    assert (after.resident.slots, after.listed) == (4, frozenset([count.listed_as]))
    assert polite.listed_as not in await worker.residents(4)
    await worker.unload(polite, embedding=False, slots=4, or_listed_as=[count.listed_as])
    assert await worker.residents(4) == {}
