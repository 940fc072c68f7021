"""Pulls from a strict registry: whole, in parts, broken off, gone on with, joined, and refused.

The parts are small here, so that a few hundred kilobytes make many of them. Two `Puller`s over one store
are as two processes are: a lock belongs to an open file, not to a process.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from supervisor.contract.names import ModelName
from supervisor.engines.embedded.failures import ApiError
from supervisor.engines.embedded.pull import Pulls
from supervisor.engines.embedded.pull_downloads import Downloads, Patience
from supervisor.models.progress import Line
from supervisor.models.store_files import StoreFiles
from tests.support.embedded_worker import free_port
from tests.support.registry import Published, Registry, registry

PART = 2**16
WEIGHTS = random.Random(6).randbytes(5 * PART + 100)
IMPATIENT = Patience(attempts=4, first_wait_s=0.01, longest_wait_s=0.02)


@dataclass
class Puller:
    """What one process is that pulls, and what its clients were told."""

    path: Path
    part_bytes: int = PART
    patience: Patience = IMPATIENT
    told: list[Line] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.files = StoreFiles(self.path)
        self.downloads = Downloads(self.files.blobs, patience=self.patience, cut=lambda _: self.part_bytes)
        self.pulls = Pulls(self.files, self.downloads)

    async def pull(self, model: Published | str, *, insecure: bool = True) -> None:
        """Pull a model."""
        name = model if isinstance(model, str) else model.name
        await self.pulls.pull(ModelName.parse(name), self._hear, insecure=insecure)

    async def refusal(self, model: Published | str, *, insecure: bool = True) -> str:
        """Return why it cannot be pulled."""
        with pytest.raises(ApiError) as caught:
            await self.pull(model, insecure=insecure)
        return caught.value.text

    async def _hear(self, line: Line) -> None:
        self.told.append(line)

    @property
    def statuses(self) -> list[str]:
        """What was told, each status once."""
        return list(dict.fromkeys(line["status"] for line in self.told))

    def completed(self, digest: str) -> int:
        """Return how far a blob was told to be."""
        lines = [line for line in self.told if line.get("digest") == digest]
        return lines[-1].get("completed", 0) if lines else 0

    def has(self, model: Published) -> bool:
        """Whether the model is there, and all its bytes are right."""
        name = ModelName.parse(model.name)
        path = self.path / "manifests" / name.host / name.namespace / name.model / name.tag
        if not path.exists():
            return False
        whole = [self._right(digest) for digest in model.digests]
        return path.read_bytes() == model.manifest and all(whole)

    def _right(self, digest: str) -> bool:
        data = self.files.blobs.path(digest).read_bytes()
        return digest == f"sha256:{hashlib.sha256(data).hexdigest()}"

    def leftovers(self) -> list[str]:
        """Return what in the store is neither blob nor manifest."""
        return [
            path.name for path in (self.path / "blobs").iterdir() if len(path.name) != len("sha256-") + 64
        ]


@pytest.fixture
def puller(tmp_path: Path) -> Puller:
    """A process that pulls."""
    return Puller(tmp_path / "store")


@pytest.fixture
def shop() -> Iterator[Registry]:
    """A registry whose blobs lie elsewhere."""
    with registry() as running:
        yield running


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition, ten seconds at most."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("what the test waits for did not come")


async def ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks, as a client does that leaves."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_pull_tells_what_ollama_tells(puller: Puller, shop: Registry) -> None:
    """The same lines in the same order, and each blob up to its last byte."""
    model = shop.add("count", WEIGHTS, template="{{ .Prompt }}")
    await puller.pull(model)
    blobs = [f"pulling {digest[7:19]}" for digest in model.digests]
    assert puller.statuses == ["pulling manifest", *blobs, "verifying sha256 digest", "writing manifest"]
    assert puller.completed(model.weights) == len(WEIGHTS)
    assert puller.has(model)
    assert puller.leftovers() == []


async def test_parts_are_fetched_side_by_side_and_once(puller: Puller, shop: Registry) -> None:
    """Each byte is asked for by exactly one range."""
    model = shop.add("count", WEIGHTS)
    await puller.pull(model)
    ranges = sorted(span for span in shop.fetched(model.weights) if span)
    assert [first for first, _ in ranges] == [0, *(last + 1 for _, last in ranges[:-1])]
    assert ranges[-1][1] == len(WEIGHTS) - 1
    assert len(ranges) == 6


async def test_what_is_there_is_not_fetched(puller: Puller, shop: Registry) -> None:
    """Neither when a model is pulled again, nor blobs of another model."""
    first, second = shop.add("one", WEIGHTS), shop.add("two", WEIGHTS, system="s")
    await puller.pull(first)
    await puller.pull(first)
    await puller.pull(second)
    assert len(shop.fetched(first.weights)) == 6
    assert puller.completed(first.weights) == len(WEIGHTS)
    assert puller.has(second)


async def test_a_broken_connection_goes_on_where_it_broke(puller: Puller, shop: Registry) -> None:
    """Nothing that came is asked for again."""
    puller.part_bytes = len(WEIGHTS)
    model = shop.add("count", WEIGHTS)
    shop.faults.cut[model.weights] = [200_000, 50_000]
    await puller.pull(model)
    starts = [span[0] for span in shop.fetched(model.weights) if span]
    assert starts[0] == 0
    assert 0 < starts[1] <= 200_000
    assert starts[1] < starts[2] <= 250_000
    assert puller.has(model)


async def test_a_registry_that_is_busy_is_asked_again(puller: Puller, shop: Registry) -> None:
    """For the manifest and for blobs."""
    model = shop.add("count", WEIGHTS)
    shop.faults.statuses = {"latest": [503], model.weights: [500, 429]}
    await puller.pull(model)
    assert puller.has(model)


async def test_a_registry_that_stays_broken_is_given_up(puller: Puller, shop: Registry) -> None:
    """With its own words, and what came before stays for the next pull."""
    puller.part_bytes = len(WEIGHTS)
    model = shop.add("count", WEIGHTS)
    shop.faults.cut[model.weights] = [200_000]
    shop.faults.statuses = {model.weights: [503] * 10}
    assert await puller.refusal(model) == "503: out of order"
    assert shop.fetched(model.weights) == []  # the storage was never reached
    shop.faults.statuses = {}
    shop.faults.cut[model.weights] = [200_000, 0, 0, 0, 0]
    await puller.refusal(model)
    assert puller.files.blobs.partial_done(model.weights, len(WEIGHTS)) > 0
    await puller.pull(model)
    assert puller.has(model)


async def test_an_unknown_model_is_told_at_once(puller: Puller, shop: Registry) -> None:
    """As Ollama tells it, without asking twice."""
    assert await puller.refusal(f"{shop.address}/library/nope") == "pull model manifest: file does not exist"
    assert shop.count("GET", "nope") == 1


async def test_a_registry_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    """However patient a pull is later: the name is wrong, and somebody waits."""
    puller = Puller(tmp_path, patience=Patience(first_wait_s=600))
    told = await puller.refusal(f"127.0.0.1:{free_port()}/library/count")
    assert told.startswith("pull model manifest: Cannot connect to host 127.0.0.1:")


async def test_wrong_bytes_are_removed_and_told(puller: Puller, shop: Registry) -> None:
    """They never have the name of the right ones, and the next pull fetches all anew."""
    model = shop.add("count", WEIGHTS)
    shop.faults.spoiled.add(model.weights)
    told = await puller.refusal(model)
    assert told.startswith(
        f"digest mismatch, file must be downloaded again: want {model.weights}, got sha256:"
    )
    assert puller.files.blobs.size(model.weights) is None
    assert puller.leftovers() == []
    shop.faults.spoiled.clear()
    await puller.pull(model)
    assert puller.has(model)


async def test_a_client_that_leaves_ends_the_download(puller: Puller, shop: Registry) -> None:
    """And the next pull goes on with what is there."""
    large = WEIGHTS * 10
    puller.part_bytes = len(large)
    model = shop.add("count", large)
    shop.faults.held[model.weights] = len(large) - 1
    task = asyncio.create_task(puller.pull(model))
    await until(lambda: puller.completed(model.weights) >= 2**20)
    await ended(task)
    there = puller.files.blobs.partial_done(model.weights, len(large))
    assert there >= 2**20
    shop.release()
    await puller.pull(model)
    assert shop.fetched(model.weights)[-1] == (there, len(large) - 1)
    assert puller.has(model)


async def test_two_pulls_of_one_blob_are_one_download(puller: Puller, shop: Registry) -> None:
    """Of the same model or of another with the same weights; one client may leave, the other has it all."""
    first, second = shop.add("one", WEIGHTS), shop.add("two", WEIGHTS, system="s")
    shop.faults.held[first.weights] = 100
    leaving = asyncio.create_task(puller.pull(first))
    await until(lambda: len(shop.fetched(first.weights)) == 6)
    staying = asyncio.create_task(puller.pull(second))
    await until(lambda: shop.count("GET", "two/manifests") == 1)
    await until(lambda: [line["status"] for line in puller.told].count(f"pulling {first.weights[7:19]}") >= 2)
    await ended(leaving)
    shop.release()
    await staying
    assert len(shop.fetched(first.weights)) == 6
    assert puller.has(second)


async def test_two_processes_do_not_fetch_the_same(puller: Puller, shop: Registry) -> None:
    """The second one waits, and tells how far the first one is."""
    other = Puller(puller.path)
    model = shop.add("count", WEIGHTS)
    shop.faults.held[model.weights] = 100
    first = asyncio.create_task(puller.pull(model))
    await until(lambda: len(shop.fetched(model.weights)) == 6)
    second = asyncio.create_task(other.pull(model))
    await until(lambda: f"pulling {model.weights[7:19]}" in other.statuses)
    shop.release()
    await asyncio.gather(first, second)
    assert len(shop.fetched(model.weights)) == 6
    assert puller.has(model)
    assert other.statuses[-1] == "writing manifest"


async def test_a_process_that_dies_is_taken_over(puller: Puller, shop: Registry) -> None:
    """The one that waited goes on with the same file."""
    puller.part_bytes = len(WEIGHTS)
    other = Puller(puller.path)
    model = shop.add("count", WEIGHTS)
    shop.faults.held[model.weights] = 2 * PART
    first = asyncio.create_task(puller.pull(model))
    await until(lambda: shop.fetched(model.weights))
    second = asyncio.create_task(other.pull(model))
    await until(lambda: f"pulling {model.weights[7:19]}" in other.statuses)
    await ended(first)
    shop.release()
    await second
    assert puller.has(model)


async def test_a_registry_without_ranges_sends_the_whole(puller: Puller, shop: Registry) -> None:
    """In one part, and anew when it breaks."""
    model = shop.add("count", WEIGHTS)
    shop.faults.ignores_ranges = True
    await puller.pull(model)
    assert puller.has(model)


async def test_a_token_is_got_once_and_shown_to_the_registry_alone(puller: Puller) -> None:
    """The storage is never given a credential (the registry would fail the test)."""
    with registry(tokens=True) as shop:
        model = shop.add("count", WEIGHTS, system="s")
        await puller.pull(model)
        assert puller.has(model)
        assert sum(one.path == "/token" for one in shop.asked) == 1


async def test_blobs_may_lie_at_the_registry_itself(puller: Puller) -> None:
    """Not every registry redirects."""
    with registry(redirects=False) as shop:
        model = shop.add("count", WEIGHTS)
        await puller.pull(model)
        assert puller.has(model)


async def test_a_model_that_does_not_fit_is_refused_before_it_begins(puller: Puller, shop: Registry) -> None:
    """With what is needed, what is there, and where."""
    model = shop.add("count", WEIGHTS)
    lie = json.loads(model.manifest)
    lie["layers"][0]["size"] = 2**60
    shop.publish("huge", json.dumps(lie).encode())
    told = await puller.refusal(f"{shop.address}/library/huge")
    assert told.startswith("not enough disk space: 1073741824.0 GiB are to be written to ")
    assert shop.fetched(model.weights) == []


async def test_a_blob_of_another_size_is_refused(puller: Puller, shop: Registry) -> None:
    """The manifest and the storage must agree."""
    model = shop.add("count", WEIGHTS)
    lie = json.loads(model.manifest)
    lie["layers"][0]["size"] = len(WEIGHTS) - 1
    shop.publish("lie", json.dumps(lie).encode())
    told = await puller.refusal(f"{shop.address}/library/lie")
    assert told == f"the registry holds {len(WEIGHTS)} bytes and its manifest says {len(WEIGHTS) - 1}"


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (b"<html>", "no JSON"),
        (b'{"layers": []}', "no weights in GGUF form"),
        (b'{"layers": [{"mediaType": "x", "digest": "sha256:../../x", "size": 1}]}', "no sound digest"),
    ],
)
async def test_a_manifest_that_makes_no_model_is_refused(
    puller: Puller, shop: Registry, manifest: bytes, why: str
) -> None:
    """Before anything is fetched."""
    shop.publish("bad", manifest)
    assert why in await puller.refusal(f"{shop.address}/library/bad")
    assert not any("/blobs/" in one.path for one in shop.asked)


async def test_a_model_that_is_pulled_anew_leaves_nothing_of_the_old(puller: Puller, shop: Registry) -> None:
    """What only the old one needed is removed, and the client is told."""
    old = shop.add("count", WEIGHTS, system="old")
    await puller.pull(old)
    new = shop.add("count", WEIGHTS[::-1], system="old")
    await puller.pull(new)
    assert puller.statuses[-1] == "removing unused layers"
    assert puller.has(new)
    assert puller.files.blobs.size(old.weights) is None


async def test_a_blob_that_is_removed_meanwhile_is_fetched_again(puller: Puller, shop: Registry) -> None:
    """The manifest is only written over blobs that are there."""
    model = shop.add("count", WEIGHTS)
    hear = puller._hear

    async def remove_once(line: Line) -> None:
        await hear(line)
        if puller.statuses[-1] == "verifying sha256 digest" and line["status"] == "verifying sha256 digest":
            await asyncio.to_thread(puller.files.blobs.remove, [model.digests[-1]])
            puller.told.append({"status": "removed"})

    await puller.pulls.pull(ModelName.parse(model.name), remove_once, insecure=True)
    assert puller.has(model)


async def test_clear_text_is_only_spoken_when_that_was_said(puller: Puller, shop: Registry) -> None:
    """Without `insecure` a registry without TLS is no registry."""
    told = await puller.refusal(shop.add("count", WEIGHTS), insecure=False)
    assert told.startswith("pull model manifest: ")
    assert shop.asked == []


async def test_a_proxy_of_the_environment_is_asked(
    puller: Puller, shop: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless NO_PROXY names the host."""
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "")
    model = shop.add("count", WEIGHTS)
    assert await puller.refusal(model) == "pull model manifest: file does not exist"
    assert asked[0].startswith(f"GET http://{shop.address}/v2/".encode())
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    await puller.pull(model)
    server.close()
    await server.wait_closed()
    assert puller.has(model)


async def test_a_store_that_cannot_be_written_to_says_so(tmp_path: Path, shop: Registry) -> None:
    """With its path."""
    (tmp_path / "file").touch()
    told = await Puller(tmp_path / "file").refusal(shop.add("count", WEIGHTS))
    assert told.startswith(f"cannot write to the model store {tmp_path}/file: ")
