"""What all handlers share: the models on disk, the slots, the runners. Finds, asks and lists.

Decides a model's context and slots from the request and the file. Knows nothing of HTTP bodies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from supervisor.contract.durations import InvalidDurationError, parse_keep_alive
from supervisor.contract.footprint import estimate
from supervisor.contract.go_json import go_type
from supervisor.contract.names import InvalidModelNameError, ModelName
from supervisor.engines.embedded.failures import BAD_REQUEST, INTERNAL, ApiError
from supervisor.engines.embedded.leases import Leases
from supervisor.engines.embedded.options import check_options
from supervisor.engines.embedded.residency import Ask, Load, Resident, Variant
from supervisor.engines.embedded.runners import Order, Runner, spawn
from supervisor.engines.embedded.settings import Settings
from supervisor.engines.embedded.upstream import Upstream
from supervisor.models.digests import Digests
from supervisor.models.library import Library
from supervisor.models.model import ModelFile

_LEAST_CONTEXT: Final = 4
_DIGEST_WAIT_S: Final = 2.0
"""A listing waits this long for a file that is being hashed; then it goes out without that digest."""


@dataclass(slots=True, kw_only=True)
class Worker:
    """The parts of one worker process."""

    settings: Settings
    library: Library
    digests: Digests
    leases: Leases
    session: aiohttp.ClientSession
    _weights_in: dict[tuple[str, str], str] = field(default_factory=dict)
    """By file and its state: what is in it, of those that have a runner or are asked for."""
    _asked_as: dict[tuple[str, str], ModelFile] = field(default_factory=dict)
    """By file and name, of those alike: the model when it was last asked for under that name.

    The name may stand for another one by now. Both forget when they are to learn something new: clients may
    copy, ask and delete for ever.
    """

    def find(self, name: str) -> ModelFile | None:
        """Return the model of that name, or None.

        Raises:
            ApiError: 400, the text can be no model's name.
        """
        if not name:
            return None
        try:
            key = ModelName.parse(name).key
        except InvalidModelNameError as error:
            raise ApiError(BAD_REQUEST, "invalid model name") from error
        return self.library.find(key)

    def options(self, model: ModelFile, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked options of a request: its own, and else those of the model.

        A loaded model keeps its context unless the request asks for another, where Ollama would load it
        anew: who loaded it said once how it is to run, and OpenAI's bodies cannot say it at all.

        Raises:
            ApiError: 500 with Ollama's text, an option has another type.
        """
        held = self.leases.context_held(self._file(model)[0])
        kept = {} if held is None else {"num_ctx": held}
        return check_options({**model.parameters, **kept, **body.get("options", {})})

    def digest(self, model: ModelFile) -> str:
        """Return the model's identity in lists: of its manifest, else of its file; empty while not known."""
        return self.digests.known(model.id) if model.entry is None else model.entry.digest

    def weights(self, model: ModelFile) -> str:
        """Return `sha256:…` of the weights, which several names may share; empty while not known."""
        if model.entry is not None:
            return model.entry.weights
        known = self.digests.known(model.id)
        return f"sha256:{known}" if known else ""

    def _file(self, model: ModelFile) -> tuple[str, str]:
        """Return the file, with its state, that stands for the weights: that of a copy which has a runner."""
        own = (model.id.path, f"{model.id.size_bytes}:{model.id.mtime_ns}")
        weights = self.weights(model)
        if weights and self._weights_in.get(own) != weights:
            used = set(self.leases.files())
            self._weights_in = {file: known for file, known in self._weights_in.items() if file in used}
            self._weights_in[own] = weights
        others = (file for file in self.leases.files() if weights and self._weights_in.get(file) == weights)
        return next(others, own)

    def context_length(self, model: ModelFile, options: Mapping[str, Any]) -> int:
        """Return the tokens of one slot: as asked, as configured, but never more than it was trained for."""
        asked = max(_LEAST_CONTEXT, options.get("num_ctx") or self.settings.context_length)
        return min(asked, model.facts.context_length or asked)

    def ask(self, model: ModelFile, options: Mapping[str, Any], keep_alive_s: float | None) -> Ask:
        """Return what to ask of the slots for one request.

        Raises:
            ApiError: 500, the model has layers that this engine cannot load.
        """
        if model.entry is not None and model.entry.modelfile.adapters:
            text = f"{model.name.short} has an adapter, which this engine cannot apply; use the engine ollama"
            raise ApiError(INTERNAL, text)
        context_length, slots = self.context_length(model, options), self.settings.num_parallel
        variant = Variant(*self._file(model), context_length)
        self._remember(variant.weights, model)
        need = estimate(
            size_bytes=model.id.size_bytes,
            model_info=model.facts.info,
            context_length=context_length,
            slots=slots,
        )
        return Ask(
            id=self.leases.next_id(),
            model=model.name.key,
            variant=variant,
            slots=slots,
            need_bytes=need.total_bytes,
            keep_alive_s=keep_alive_s,
        )

    def _remember(self, file: str, model: ModelFile) -> None:
        if (file, model.name.key) not in self._asked_as:
            used = self.leases.names()
            self._asked_as = {name: known for name, known in self._asked_as.items() if name in used}
        self._asked_as[file, model.name.key] = model

    def lease(
        self, model: ModelFile, options: Mapping[str, Any], keep_alive_s: float | None
    ) -> AbstractAsyncContextManager[Runner]:
        """Wait for a slot of the model and hold it."""
        return self.leases.lease(self.ask(model, options, keep_alive_s))

    def unload(self, model: ModelFile) -> None:
        """Let the model go as soon as nobody uses it, under whatever name it was loaded."""
        self.leases.unload(model.name.key, self._file(model)[0])

    def lost_name(self, model: ModelFile) -> list[Runner]:
        """Let go what was loaded under a name that has been taken from the model; return what has to end."""
        key, weights = model.name.key, self._file(model)[0]
        if self.leases.named(key, weights):
            self.leases.unload(key, weights)
        return self.leases.named(key, weights)

    def served_as(self, resident: Resident) -> list[ModelFile]:
        """Return what a runner was loaded and asked for as, one for each name."""
        return [self._asked_as[resident.variant.weights, name] for name in resident.names]

    def upstream(self, runner: Runner) -> Upstream:
        """Return the way to talk to a runner."""
        return Upstream(self.session, runner)

    async def models(self) -> list[ModelFile]:
        """Return the models, those changed last first, once their digests are known or took too long."""
        models = sorted(self.library.scan().values(), key=lambda m: -m.modified_ns)
        unnamed = [m.id for m in models if m.entry is None]
        self.digests.begin(unnamed)
        await self.digests.wait(unnamed, timeout_s=_DIGEST_WAIT_S)
        return models


def keep_alive_of(body: Mapping[str, Any]) -> float | None:
    """Return a request's keep-alive in seconds, `inf` for ever, None when it says nothing.

    Raises:
        ApiError: 400 with Go's text.
    """
    value = body.get("keep_alive")
    if value is None:
        return None
    if isinstance(value, (bool, list, dict)):
        raise ApiError(BAD_REQUEST, f"Unsupported type: '{go_type(value)}'")
    try:
        seconds = parse_keep_alive(value)
    except InvalidDurationError as error:
        raise ApiError(BAD_REQUEST, str(error)) from error
    return math.inf if seconds is None else seconds


class Starter:
    """Starts the runner of a load, with the threads that this worker's cores allow."""

    def __init__(self, library: Library, threads: int) -> None:
        self._library = library
        self._threads = threads

    async def __call__(self, load: Load, on_exit: Callable[[Runner, int], None]) -> Runner:
        """Return the new process.

        Raises:
            OSError: the model's file is gone, or no process can be started.
        """
        model = self._library.find(load.model)
        if model is None:
            raise FileNotFoundError(f"the file of {load.model} is gone")
        order = Order(
            path=model.id.path,
            name=model.name.short,
            context_length=load.variant.context_length,
            slots=load.slots,
            threads=self._threads,
            embeds=model.facts.embeds,
            ranks=model.facts.ranks,
        )
        return await spawn(order, on_exit)
