"""One worker's management requests: what it has, what it holds, load this, unload that.

Decides how a load or an unload is asked for and when it is done. Loads and unloads are the gateway's own
requests: a load belongs to the connection that asked for it, so it must not be a client's. Loads and
unloads go through the `ollama` client; lists are read raw, because that client drops the fields it does
not know, and clients and scheduler want all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import aiohttp
import httpx
import ollama

from gateway.roster import ModelDetails, ModelRow
from gateway.scheduling.types import Resident, Variant
from supervisor.contract.wire import SLOTS_FIELD

T = TypeVar("T")
Residents = dict[Variant, Resident]

_POLL_S: Final = 0.05
"""Between looks at /api/ps after a load or an unload was answered; Ollama's list follows within 0.5 s."""
_LIST_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)


class WorkerRefusedError(Exception):
    """The worker answered, and the answer is no: a model it cannot load."""


class WorkerUnreachableError(Exception):
    """The worker did not answer, or the connection broke."""


class WorkerClient:
    """Talks to the worker at one base URL."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        """Share the session's connections; the caller closes it."""
        self._base_url = base_url
        self._session = session
        self._ollama = ollama.AsyncClient(base_url, trust_env=False)

    async def tags(self) -> dict[str, Any]:
        """Return the answer of /api/tags.

        Raises:
            WorkerUnreachableError: no answer, or none that makes sense.
        """
        return await self._get("/api/tags")

    async def residents(self, slots: int) -> Residents:
        """Return what is loaded, by its weights; `slots` is taken where the worker does not report them.

        Raises:
            WorkerUnreachableError: no answer, or none that makes sense.
        """
        rows = (await self._get("/api/ps")).get("models") or []
        return {Variant(row["digest"]): _resident(row, slots) for row in rows if "digest" in row}

    async def details(self, model: ModelRow) -> ModelDetails:
        """Return what /api/show tells of the model.

        Raises:
            WorkerRefusedError: it does not know the model.
            WorkerUnreachableError: no answer.
        """
        shown = await self._ask(self._ollama.show(model.name))
        info = dict(shown.modelinfo or {})
        capabilities = shown.capabilities or []
        return ModelDetails(info, "embedding" in capabilities and "completion" not in capabilities)

    async def load(self, model: ModelRow, *, embedding: bool, slots: int) -> Resident:
        """Load the model for good and return what became of it.

        Raises:
            WorkerRefusedError: the engine cannot load it; the text is the engine's.
            WorkerUnreachableError: the worker went away.
        """
        await self._keep(model, -1, embedding=embedding)
        weights = model.variant.weights
        return (await self._wait_until(lambda there: weights in there, slots))[weights]

    async def unload(self, model: ModelRow, *, embedding: bool, slots: int) -> None:
        """Unload the model and return when it is gone.

        Raises:
            WorkerRefusedError: the worker does not want to.
            WorkerUnreachableError: the worker went away.
        """
        await self._keep(model, 0, embedding=embedding)
        await self._wait_until(lambda there: model.variant.weights not in there, slots)

    async def _keep(self, model: ModelRow, keep_alive: int, *, embedding: bool) -> None:
        """Ask nothing of the model but to stay so long; it is asked with the options it is to run with."""
        options = dict(model.variant.options)
        if embedding:
            await self._ask(self._ollama.embed(model.name, "", keep_alive=keep_alive, options=options))
        else:
            await self._ask(self._ollama.generate(model.name, keep_alive=keep_alive, options=options))

    async def _wait_until(self, reached: Callable[[Residents], bool], slots: int) -> Residents:
        """Look at what is loaded until it is as wanted: a worker sends no events."""
        residents = await self.residents(slots)
        while not reached(residents):
            await asyncio.sleep(_POLL_S)
            residents = await self.residents(slots)
        return residents

    async def close(self) -> None:
        """Close the connections of the `ollama` client."""
        await self._ollama.close()  # type: ignore[no-untyped-call]  # the library left it bare

    async def _ask(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except ollama.ResponseError as error:
            raise WorkerRefusedError(error.error) from error
        except (ConnectionError, httpx.HTTPError) as error:
            raise WorkerUnreachableError(f"{self._base_url}: {error}") from error

    async def _get(self, path: str) -> dict[str, Any]:
        try:
            async with self._session.get(self._base_url + path, timeout=_LIST_TIMEOUT) as response:
                response.raise_for_status()
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise WorkerUnreachableError(f"{self._base_url}{path}: {error}") from error
        if not isinstance(answer, dict):
            raise WorkerUnreachableError(f"{self._base_url}{path}: no JSON object")
        return answer


def _resident(row: Mapping[str, Any], slots: int) -> Resident:
    return Resident(
        slots=row.get(SLOTS_FIELD) or slots,
        size_bytes=row.get("size") or 0,
        size_vram_bytes=row.get("size_vram") or 0,
        context_length=row.get("context_length") or 0,
    )
