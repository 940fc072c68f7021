"""A pull, step by step: manifest, blobs, digests, and last the manifest's file.

The order is what makes it safe: a name appears once all that it stands for is there. A client that leaves
ends it at any step; what was fetched stays for the next pull.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Final

from supervisor.contract.names import ModelName
from supervisor.engines.embedded.failures import INTERNAL, ApiError, human_bytes
from supervisor.engines.embedded.pull_client import Registry, Token, open_registry
from supervisor.engines.embedded.pull_downloads import Connect, Download, Downloads, in_thread
from supervisor.models import progress
from supervisor.models.blob_files import WrongDigestError
from supervisor.models.manifest import InvalidManifestError, Layer, Manifest, parse_manifest
from supervisor.models.progress import Line
from supervisor.models.registry import RegistryError, Repository
from supervisor.models.store_files import MissingBlobsError, StoreFiles

Tell = Callable[[Line], Awaitable[None]]
"""Lets the client hear a line; raises when it has gone."""

_ROUNDS: Final = 3
"""How often it begins again when somebody removed a blob that it had found in the store."""


@dataclass(slots=True)
class Pulls:
    """Pulls into one store."""

    files: StoreFiles
    downloads: Downloads

    async def pull(self, name: ModelName, tell: Tell, *, insecure: bool) -> None:
        """Pull a model, and tell how it goes on.

        Raises:
            ApiError: it cannot be pulled.
        """
        token, repository = Token(), Repository.of(name, insecure=insecure)

        def connect() -> AbstractAsyncContextManager[Registry]:
            return open_registry(repository, token)

        try:
            await tell(progress.PULLING_MANIFEST)
            await self._fill(name, connect, await self._manifest(connect), tell)
        except (RegistryError, WrongDigestError, InvalidManifestError, MissingBlobsError) as error:
            raise ApiError(INTERNAL, str(error)) from error
        except OSError as error:
            raise ApiError(INTERNAL, unwritable(self.files, error)) from error

    async def _manifest(self, connect: Connect) -> bytes:
        try:
            async with connect() as registry:
                return await self.downloads.patience.beginning()(registry.manifest)
        except RegistryError as error:
            raise ApiError(INTERNAL, f"pull model manifest: {error}") from error

    async def _fill(self, name: ModelName, connect: Connect, data: bytes, tell: Tell) -> None:
        manifest = parse_manifest(data)
        _ = manifest.weights  # a model without weights cannot be run here: say so before gigabytes come
        for last in (False,) * (_ROUNDS - 1) + (True,):
            await check_space(self.files, await in_thread(self._missing_bytes, manifest.blobs))
            await self._blobs(connect, manifest, tell)
            await tell(progress.WRITING_MANIFEST)
            try:
                replaced = await in_thread(self.files.write, name, data)
                break
            except MissingBlobsError:
                if last:
                    raise
        if unneeded := set(replaced) - set(manifest.digests):
            await tell(progress.REMOVING_UNUSED)
            await in_thread(self.files.remove_unused, unneeded)

    async def _blobs(self, connect: Connect, manifest: Manifest, tell: Tell) -> None:
        async with AsyncExitStack() as stack:
            joined: list[Download] = []
            for layer in manifest.blobs:
                if await in_thread(self.files.blobs.size, layer.digest) is not None:
                    await tell(progress.pulling(layer, layer.size_bytes))
                    continue
                joined.append(await stack.enter_async_context(self.downloads.join(layer, connect)))
                async for completed in joined[-1].progress():
                    await tell(progress.pulling(layer, completed))
            await tell(progress.VERIFYING)
            for download in joined:
                await download.whole()

    def _missing_bytes(self, layers: Iterable[Layer]) -> int:
        """Return the bytes that are still to come."""
        blobs = self.files.blobs
        absent = [layer for layer in layers if blobs.size(layer.digest) is None]
        return sum(one.size_bytes - blobs.partial_done(one.digest, one.size_bytes) for one in absent)


async def check_space(files: StoreFiles, need_bytes: int) -> None:
    """Refuse what does not fit on the disk, before it begins.

    Raises:
        ApiError: it does not.
        OSError: the store cannot be made.
    """
    free = await in_thread(files.blobs.free_bytes)
    if need_bytes > free:
        need, there = human_bytes(need_bytes), human_bytes(free)
        text = f"not enough disk space: {need} are to be written to {files.path}, where {there} are free"
        raise ApiError(INTERNAL, text)


def unwritable(files: StoreFiles, error: OSError) -> str:
    """Return why a store cannot be written to, and what to do about it."""
    if isinstance(error, PermissionError):
        return (
            f"the model store {files.path} may not be written to by this user: give it to the user, or name "
            f"another directory as `store` in the configuration ({error.strerror}: {error.filename})"
        )
    return f"cannot write to the model store {files.path}: {error}"
