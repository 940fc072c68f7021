"""Fetches blobs: in parts, side by side, each resumed where it broke; one download for all who want it.

A blob that two pulls want is fetched once; it is given up when the last of them has gone, and what is there
stays for whoever asks next. Two processes do not fetch the same blob either: the second one waits and looks
now and then, which is all that one process can learn of another.

Nothing has a blob's name before its bytes have its digest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, ParamSpec, TypeVar

from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from supervisor.engines.embedded.pull_client import RangeIgnoredError, Registry
from supervisor.models.blob_files import BlobFiles, Partial
from supervisor.models.manifest import Layer
from supervisor.models.registry import PassingRegistryError, RegistryError, UnreachableRegistryError
from supervisor.models.registry_plan import Part, part_size

_P = ParamSpec("_P")
_T = TypeVar("_T")

_FLUSH_BYTES: Final = 2**20
_WORTH_BYTES: Final = 2**20
"""An attempt that brought so much was no failure, however it ended."""
_LOOK_S: Final = 0.25
"""How often another process's download is looked at."""
_REPORT_S: Final = 0.06
"""How often a client hears of progress: as often as from Ollama."""

Connect = Callable[[], AbstractAsyncContextManager[Registry]]


@dataclass(frozen=True, slots=True)
class Patience:
    """How often, and after how long, a part is asked for again."""

    attempts: int = 7
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0

    def beginning(self) -> AsyncRetrying:
        """Return the loop for the first question, whose answer a client waits for."""
        brief = replace(self, attempts=min(3, self.attempts), first_wait_s=self.first_wait_s / 2)
        return brief.retrying(but=UnreachableRegistryError)

    def retrying(self, *, but: type[RegistryError] | tuple[()] = ()) -> AsyncRetrying:
        """Return the loop: of what may pass, and of nothing else."""
        growing = wait_exponential(multiplier=self.first_wait_s, max=self.longest_wait_s)
        return AsyncRetrying(
            retry=retry_if_exception(
                lambda e: isinstance(e, PassingRegistryError) and not isinstance(e, but)
            ),
            stop=stop_after_attempt(self.attempts),
            wait=growing + wait_random(0, self.first_wait_s),
            reraise=True,
        )


@dataclass(slots=True, eq=False)
class Download:
    """One blob on its way. Written by its task alone."""

    layer: Layer
    completed_bytes: int = 0
    fetched: asyncio.Event = field(default_factory=asyncio.Event)
    """All bytes are there; whether they are right is known when the task ends."""
    wanted_by: int = 0
    task: asyncio.Task[None] | None = None

    async def progress(self) -> AsyncIterator[int]:
        """Yield the bytes that are there, whenever they are more, until all are fetched.

        Raises:
            RegistryError: they cannot be fetched.
            OSError: they cannot be written.
        """
        told = self.completed_bytes
        yield told
        while not await self._settled(_REPORT_S):
            if self.completed_bytes != told:
                told = self.completed_bytes
                yield told
        if told != self.layer.size_bytes:
            yield self.layer.size_bytes

    async def whole(self) -> None:
        """Wait until the blob is in the store.

        Raises:
            WrongDigestError: its bytes are wrong; they are gone.
        """
        assert self.task is not None
        await asyncio.shield(self.task)

    async def _settled(self, within_s: float) -> bool:
        assert self.task is not None
        if self.task.done():
            await self.task
            return True
        waiting = asyncio.ensure_future(self.fetched.wait())
        try:
            await asyncio.wait({self.task, waiting}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        return self.fetched.is_set()


class Downloads:
    """The downloads of one process into one store."""

    def __init__(
        self,
        blobs: BlobFiles,
        *,
        patience: Patience | None = None,
        parts_at_once: int = 8,
        cut: Callable[[int], int] = part_size,
    ) -> None:
        self._blobs = blobs
        self._patience = patience or Patience()
        self._at_once = parts_at_once
        self._cut = cut
        self._running: dict[str, Download] = {}

    @property
    def patience(self) -> Patience:
        """How often a registry is asked."""
        return self._patience

    @asynccontextmanager
    async def join(self, layer: Layer, connect: Connect) -> AsyncIterator[Download]:
        """Begin a download, or wait for the one that runs; leave it at the end of the block."""
        download = self._running.get(layer.digest)
        if download is None:
            download = self._running[layer.digest] = Download(layer)
            download.task = asyncio.create_task(self._run(download, connect))
        download.wanted_by += 1
        try:
            yield download
        finally:
            download.wanted_by -= 1
            if download.wanted_by == 0:
                await self._leave(download)

    async def _leave(self, download: Download) -> None:
        """End it, finished or not; its errors were told to those who waited."""
        assert download.task is not None
        if self._running.get(download.layer.digest) is download:
            del self._running[download.layer.digest]
        download.task.cancel()
        await asyncio.wait({download.task})
        if not download.task.cancelled():
            download.task.exception()

    async def _run(self, download: Download, connect: Connect) -> None:
        layer = download.layer
        while await in_thread(self._blobs.size, layer.digest) is None:
            partial = await in_thread(
                self._blobs.open_partial, layer.digest, layer.size_bytes, self._cut(layer.size_bytes)
            )
            if partial is None:
                await self._watch(download)
            else:
                await self._complete(download, partial, connect)
        download.completed_bytes = layer.size_bytes

    async def _watch(self, download: Download) -> None:
        """Tell how far another process has come."""
        await asyncio.sleep(_LOOK_S)
        layer = download.layer
        download.completed_bytes = await in_thread(self._blobs.partial_done, layer.digest, layer.size_bytes)

    async def _complete(self, download: Download, partial: Partial, connect: Connect) -> None:
        try:
            if await in_thread(self._blobs.size, download.layer.digest) is not None:
                self._blobs.drop(partial)  # another process finished it between two looks
                return
            async with connect() as registry:
                await _Fetch(download, partial, registry, self._patience).all(self._at_once)
            download.fetched.set()
            await in_thread(self._blobs.finish, partial, download.layer.digest)
        finally:
            partial.close()


@dataclass(slots=True)
class _Fetch:
    """The work on one download that this process has the lock of."""

    download: Download
    partial: Partial
    registry: Registry
    patience: Patience

    async def all(self, at_once: int) -> None:
        """Fetch what is missing."""
        self._count()
        for _ in range(self.patience.attempts):
            try:
                return await self._parts(at_once)
            except RangeIgnoredError:
                self.partial.restart(max(1, self.partial.plan.size_bytes))
        raise RegistryError("the registry sends no parts of a blob, and the whole one broke each time")

    async def _parts(self, at_once: int) -> None:
        turns = asyncio.Semaphore(at_once)
        try:
            async with asyncio.TaskGroup() as group:
                for part in self.partial.plan.parts:
                    group.create_task(self._part(part, turns))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the others are of parts that broke for the same reason

    async def _part(self, part: Part, turns: asyncio.Semaphore) -> None:
        async with turns:
            while part.missing:
                async for attempt in self.patience.retrying():
                    with attempt:
                        await self._attempt(part)

    async def _attempt(self, part: Part) -> None:
        """Fetch as much of a part as comes; what came although it broke later was worth it."""
        before = part.done
        try:
            await self._receive(part)
        except PassingRegistryError:
            if part.done - before < _WORTH_BYTES:
                raise
        if part.missing and part.done == before:
            raise PassingRegistryError("the registry ended before the last byte")

    async def _receive(self, part: Part) -> None:
        held: list[bytes] = []
        layer = self.download.layer
        try:
            async with self.registry.blob(layer.digest, part.at, part.end - 1, layer.size_bytes) as chunks:
                async for chunk in chunks:
                    held.append(chunk)
                    if sum(map(len, held)) >= _FLUSH_BYTES:
                        await in_thread(self._flush, part, held)
                        self._count()
        finally:
            self._flush(part, held)
            self._count()

    def _flush(self, part: Part, held: list[bytes]) -> None:
        """Write what is held, but never beyond the part."""
        data = b"".join(held)[: part.missing]
        held.clear()
        if data:
            self.partial.write(part, data)

    def _count(self) -> None:
        self.download.completed_bytes = self.partial.plan.done


async def in_thread(act: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run blocking file work in a thread.

    A thread cannot be cancelled: one who is cancelled waits for it, so that no file is closed under it.
    """
    work = asyncio.ensure_future(asyncio.to_thread(act, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        if not work.cancelled():
            work.exception()  # nobody else asks for it any more
        raise
