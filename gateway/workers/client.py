"""One worker's management requests: what it has, what it holds, load this, unload that.

Decides how a load or an unload is asked for and when it is done. Loads and unloads are the gateway's own
requests: a load belongs to the connection that asked for it, so it must not be a client's. Loads and
unloads go through the `ollama` client; lists are read raw, because that client drops the fields it does
not know, and clients and scheduler want all of them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp
import httpx
import ollama

from gateway.fleet.roster import ModelDetails, ModelRow, listed_as
from gateway.fleet.variants import PASSED
from gateway.relay.sockets import socket_options
from gateway.scheduling.types import Resident
from gateway.workers.effective_slots import effective_slots
from supervisor.contract.wire import SLOTS_FIELD

T = TypeVar("T")
Residents = dict[str, Resident]
"""What a worker holds, by what it lists it as (`gateway.fleet.roster.listed_as`)."""

_POLL_S: Final = 0.05
"""Between looks at /api/ps after a load or an unload was answered; Ollama's list follows within 0.5 s."""
_LISTED_WITHIN_S: Final = 5.0
"""After a load was answered. A worker that lists the model no more has made room for something else."""
_FROM_BLOB: Final = re.compile(r"^FROM .*sha256[-:]([0-9a-f]{64})\s*$", re.MULTILINE)
"""The line of a Modelfile that names the weights."""
_LIST_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True, slots=True)
class AfterLoad:
    """What is there once a model is loaded."""

    resident: Resident
    listed: frozenset[str]
    """All that the worker holds then: an Ollama may have evicted something to make room."""


class WorkerRefusedError(Exception):
    """The worker answered, and the answer is no: a model it cannot load."""


class WorkerUnreachableError(Exception):
    """The worker did not answer, or the connection broke."""


def _without_credentials(request: httpx.Request) -> httpx.Request:
    """Take out the operator's key for ollama.com, which the client finds in OLLAMA_API_KEY."""
    request.headers.pop("Authorization", None)
    return request


class WorkerClient:
    """Talks to the worker at one base URL."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        """Share the session's connections; the caller closes it."""
        self._base_url = base_url
        self._session = session
        transport = httpx.AsyncHTTPTransport(socket_options=socket_options())
        self._ollama = ollama.AsyncClient(
            base_url, trust_env=False, transport=transport, auth=_without_credentials
        )
        self._embeds: dict[str, bool] = {}
        """By digest: whether the model only embeds. Asked once, because /api/ps does not tell."""

    async def tags(self) -> dict[str, Any]:
        """Return the answer of /api/tags.

        Raises:
            WorkerUnreachableError: no answer, or none that makes sense.
        """
        return await self._get("/api/tags")

    async def residents(self, slots: int) -> Residents:
        """Return what is loaded, by what it is listed as, with the slots that each model really has.

        An embedded worker reports them; of an Ollama that was started with `slots` they are known by rule.

        Raises:
            WorkerUnreachableError: no answer, or none that makes sense.
        """
        rows = (await self._get("/api/ps")).get("models") or []
        return {listed_as(row): await self._resident(row, slots) for row in rows if listed_as(row)}

    async def _resident(self, row: Mapping[str, Any], slots: int) -> Resident:
        return Resident(
            slots=row.get(SLOTS_FIELD) or await self._effective_slots(row, slots),
            size_bytes=row.get("size") or 0,
            size_vram_bytes=row.get("size_vram") or 0,
            context_length=row.get("context_length") or 0,
        )

    async def _effective_slots(self, row: Mapping[str, Any], slots: int) -> int:
        """Take a row of /api/ps or /api/tags."""
        digest, details = row["digest"], row.get("details") or {}
        if slots > 1 and digest not in self._embeds:
            try:
                self._embeds[digest] = _only_embeds(await self._ask(self._ollama.show(row["name"])))
            except WorkerRefusedError:  # renamed or deleted since it was loaded
                self._embeds[digest] = False
        return effective_slots(
            slots,
            family=details.get("family") or "",
            file_format=details.get("format") or "",
            completes=not self._embeds.get(digest, False),
        )

    async def details(self, model: ModelRow) -> ModelDetails:
        """Return what /api/show tells of the model.

        Raises:
            WorkerRefusedError: it does not know the model.
            WorkerUnreachableError: no answer.
        """
        shown = await self._ask(self._ollama.show(model.name))
        self._embeds[model.digest] = _only_embeds(shown)
        options = modelfile_options(shown.parameters or "")
        return ModelDetails(dict(shown.modelinfo or {}), _only_embeds(shown), _weights(shown), options)

    async def load(
        self, model: ModelRow, *, embedding: bool, slots: int, or_listed_as: Collection[str] = ()
    ) -> AfterLoad:
        """Load the model for good and return what became of it.

        `or_listed_as` tells its other names: Ollama lists a runner under the name that it was loaded for
        first, whichever of the names over its weights is asked for.

        Raises:
            WorkerRefusedError: the engine cannot load it; the text is the engine's.
            WorkerUnreachableError: the worker went away, or unloaded it at once.
        """
        names = {model.listed_as, *or_listed_as}
        await self._keep(model, -1, embedding=embedding)
        try:
            async with asyncio.timeout(_LISTED_WITHIN_S):
                there = await self._wait_until(lambda held: not held.keys().isdisjoint(names), slots)
        except TimeoutError as error:
            text = f"{self._base_url}: {model.name} was loaded and unloaded again by the worker itself"
            raise WorkerUnreachableError(text) from error
        return AfterLoad(next(held for listed, held in there.items() if listed in names), frozenset(there))

    async def unload(
        self, model: ModelRow, *, embedding: bool, slots: int, or_listed_as: Collection[str] = ()
    ) -> None:
        """Unload the model and return when none of its names is listed any more.

        Raises:
            WorkerRefusedError: the worker does not want to.
            WorkerUnreachableError: the worker went away.
        """
        names = {model.listed_as, *or_listed_as}
        await self._keep(model, 0, embedding=embedding)
        await asyncio.sleep(_POLL_S)  # an /api/ps in the very moment of the unload can crash an Ollama
        await self._wait_until(lambda held: held.keys().isdisjoint(names), slots)

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
            silent = f"the engine refused with {error.status_code} and gave no reason; its log may tell more"
            raise WorkerRefusedError(error.error or silent) from error
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


def _only_embeds(shown: ollama.ShowResponse) -> bool:
    capabilities = shown.capabilities or []
    return "embedding" in capabilities and "completion" not in capabilities


def modelfile_options(parameters: str) -> dict[str, int | bool]:
    """Return the runner options in what /api/show tells of a Modelfile's parameters: `num_ctx   8192`."""
    pairs = (line.split(maxsplit=1) for line in parameters.splitlines())
    told = {pair[0]: pair[1].strip().casefold() for pair in pairs if len(pair) > 1 and pair[0] in PASSED}
    flags = {name: text == "true" for name, text in told.items() if text in {"true", "false"}}
    return flags | {name: int(text) for name, text in told.items() if text.lstrip("-").isdigit()}


def _weights(shown: ollama.ShowResponse) -> str:
    found = _FROM_BLOB.search(shown.modelfile or "")
    return f"sha256:{found[1]}" if found else ""
