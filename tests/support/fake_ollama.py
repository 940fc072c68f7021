"""A worker for gateway tests that is stricter than a real one and fails on command.

It refuses to do what the gateway must never ask for: more answers at once than it has slots, an answer
of a model that is not loaded or is loaded with other runner options, a load in the place of one with other
options, two loads at once, unloading what is busy. Each is noted in `offences`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from gateway.surfaces.surface import RUNNER_OPTIONS
from supervisor.contract.config import ExternalWorker
from supervisor.contract.fleet import Device, DeviceKind, WorkerState, WorkerStatus
from supervisor.contract.wire import SERVER_BUSY, SLOTS_FIELD, model_not_found

NO_MEMORY = "an error was encountered while running the model: CUDA error: out of memory"
REFUSALS = {
    "busy": (503, SERVER_BUSY),
    "unknown": (404, model_not_found("count")),
    "no memory": (500, NO_MEMORY),
}
COUNTS = {"prompt_eval_count": 7, "eval_count": 1}


@dataclass
class FakeOllama:
    """One worker process's HTTP face; `script` holds what to do to the next inference requests."""

    name: str
    slots: int = 2
    models: tuple[str, ...] = ("count", "other")
    size_bytes: int = 1000
    script: deque[str] = field(default_factory=deque)
    load_errors: deque[str] = field(default_factory=deque)
    loaded: set[str] = field(default_factory=set)
    running: list[str] = field(default_factory=list)
    served: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    offences: list[str] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    """Answers wait for it after their first token."""
    loads: list[str] = field(default_factory=list)
    load_options: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Runner options that each loaded model was loaded with; none was told for one that is missing."""
    context_length: int = 64
    trained_context: int | None = None
    parameters: str = ""
    """Of every model's Modelfile, as /api/show tells them."""
    vram_share: float = 0.0
    """Of a loaded model's size; 1 is a GPU with room, 0 is a CPU."""
    most_context: int | None = None
    """What it gives a model of the context that was ordered, at most: a GPU that is too small."""
    tolerant: bool = False
    """Loads what is asked for and not there, as Ollama does, instead of noting an offence."""
    evicts: bool = False
    """Makes room for each load by itself: nothing else stays loaded."""
    looks: int = 0
    """How often /api/ps was asked."""
    loading: int = 0
    load_gate: asyncio.Event | None = None
    """Loads wait for it."""
    probes: int = 0
    version: str | None = "0.24.0"
    """None answers 404, as something that is no Ollama would."""
    reports_slots: bool = True
    """As Corral's own workers do; a real Ollama does not."""
    inference_routes: tuple[str, ...] = ("/api/generate", "/api/chat", "/v1/chat/completions")
    engine: str = "fake"
    host: str = "127.0.0.1"
    port: int = 0
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_get("/api/version", self.tell_version)
        app.router.add_get("/api/tags", self.tags)
        app.router.add_get("/api/ps", self.ps)
        app.router.add_post("/api/show", self.show)
        for path in self.inference_routes:
            app.router.add_post(path, self.infer)
        self.add_routes(app)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]  # no public way

    def add_routes(self, app: web.Application) -> None:
        """Take part in more: for workers that can do more."""

    async def stop(self) -> None:
        self.hold.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def status(self, incarnation: int = 1, **changes: Any) -> WorkerStatus:
        """Return what the supervisor would tell of this worker."""
        values: dict[str, Any] = {
            "worker": self.name,
            "incarnation": incarnation,
            "state": WorkerState.READY,
            "reason": "probe passed",
            "since_unix": 0.0,
            "pid": 1,
            "engine": self.engine,
            "base_url": self.url,
            "devices": (Device(kind=DeviceKind.CPU, id="0", label="CPU 0"),),
            "num_parallel": self.slots,
            "max_loaded_models": 1,
            "max_queue": 4,
            "context_length": self.context_length,
            "keep_alive_s": None,
            "memory_bytes": 4 * 2**30,
            "models": None,
        }
        return WorkerStatus(**{**values, **changes})

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def external(self, **changes: Any) -> ExternalWorker:
        """Return what a configuration file would say of this worker."""
        values = {
            "name": self.name,
            "url": self.url,
            "num_parallel": self.slots,
            "memory": 2**30,
            "keep_alive": -1,
        }
        return ExternalWorker.model_validate({**values, **changes})

    def digest(self, model: str) -> str:
        return f"digest-of-{model.removesuffix(':latest')}"

    def row(self, model: str) -> dict[str, Any]:
        name = f"{model}:latest"
        return {"name": name, "model": name, "digest": self.digest(model), "size": self.size_bytes}

    async def tell_version(self, _: web.Request) -> web.Response:
        self.probes += 1
        if self.version is None:
            return web.Response(status=404, text="no such page")
        return web.json_response({"version": self.version})

    async def tags(self, _: web.Request) -> web.Response:
        return web.json_response({"models": [self.row(model) for model in self.models]})

    async def ps(self, _: web.Request) -> web.Response:
        self.looks += 1
        if self.loading:
            self.offences.append("/api/ps asked during a load")
        slots = {SLOTS_FIELD: self.slots} if self.reports_slots else {}
        rows = [{**self.row(m), **self.residence(m), **slots} for m in self.loaded]
        return web.json_response({"models": rows})

    def residence(self, model: str) -> dict[str, Any]:
        ordered = self.options.get(model, {}).get("num_ctx", self.context_length)
        context = min(ordered, *(most for most in (self.most_context, self.trained_context) if most), ordered)
        return {"size_vram": int(self.size_bytes * self.vram_share), "context_length": context}

    async def show(self, _: web.Request) -> web.Response:
        info = {"general.architecture": "fake", "fake.context_length": self.trained_context}
        told = info if self.trained_context is not None else {}
        shown = {
            "model_info": told,
            "capabilities": ["completion"],
            "parameters": self.parameters,
            "details": {},
        }
        return web.json_response(shown)

    async def infer(self, request: web.Request) -> web.StreamResponse:
        body = await self.read(request)
        model = body["model"].removesuffix(":latest")
        if "keep_alive" in body:
            return await self.load_or_unload(model, body["keep_alive"], body.get("options") or {})
        wanted = runner_options(body)
        if model not in self.loaded and self.tolerant:
            self.loaded |= {model} if "unknown" not in self.script else set()
        elif model not in self.loaded:
            self.offences.append(f"answer of {model} asked, which is not loaded")
        elif wanted != self.options.get(model, {}) and request.path.startswith("/api/"):
            self.offences.append(f"answer of {model} with {wanted}, loaded with {self.options.get(model)}")
        if len(self.running) >= self.slots:
            self.offences.append("more answers at once than slots")
        self.running.append(model)
        self.most_at_once = max(self.most_at_once, len(self.running))
        try:
            return await self.answer(request, body)
        finally:
            self.running.remove(model)

    async def read(self, request: web.Request) -> dict[str, Any]:
        """Return what is asked."""
        asked: dict[str, Any] = await request.json()
        return asked

    def frames(self, request: web.Request, body: dict[str, Any]) -> tuple[str, bytes, bytes]:  # noqa: ARG002 -- for others
        """Return the content type of an answer, its first frame and the rest."""
        return "application/x-ndjson", frame("1", done=False), frame("", done=True)

    async def load_or_unload(self, model: str, keep_alive: int, options: dict[str, Any]) -> web.Response:
        if keep_alive == 0:
            if model in self.running:
                self.offences.append(f"unload of {model}, which is busy")
            self.loaded.discard(model)
            self.options.pop(model, None)
            return web.json_response({"done": True, "done_reason": "unload"})
        if self.loading:
            self.offences.append("two loads at once")
        if model in self.loaded and self.options.get(model, {}) != options:
            self.offences.append(f"load of {model} with {options} in the place of {self.options.get(model)}")
        self.loading += 1
        try:
            await (self.load_gate.wait() if self.load_gate else asyncio.sleep(0))
        finally:
            self.loading -= 1
        self.loads.append(model)
        self.load_options.append(options)
        if self.load_errors:
            return web.json_response({"error": self.load_errors.popleft()}, status=500)
        if self.evicts:
            self.loaded.clear()
        self.loaded.add(model)
        self.options[model] = options
        return web.json_response({"done": True, "done_reason": "load"})

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        action = self.script.popleft() if self.script else "answer"
        if action in REFUSALS:
            status, text = REFUSALS[action]
            return web.json_response({"error": text}, status=status)
        if action == "mute":
            await self.hold.wait()
        if action == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        headers = {key.lower(): value for key, value in request.headers.items()}
        self.served.append({"body": body, "headers": headers})
        content_type, first, last = self.frames(request, body)
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        if action == "end empty":
            await response.write_eof()
            return response
        await response.write(first)
        if action == "cut in a frame":
            await response.write(last[: len(last) // 3])
        if action.startswith("cut"):
            assert request.transport is not None
            request.transport.close()
            return response
        if action == "end early":
            await response.write_eof()
            return response
        if action == "hold":
            await self.hold.wait()
        await response.write(last)
        await response.write_eof()
        return response


def runner_options(body: dict[str, Any]) -> dict[str, Any]:
    """Return those options of a request that a real one would compare with its runner's."""
    return {key: value for key, value in (body.get("options") or {}).items() if key in RUNNER_OPTIONS}


def frame(text: str, *, done: bool) -> bytes:
    """Return one NDJSON frame of /api/generate, in Ollama's compact writing."""
    row = {"model": "count", "response": text, "done": done, **(COUNTS if done else {})}
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"
