"""A small strict registry of models on real sockets: what a pull asks, and the faults that it may meet.

Two hosts, as in life: the registry itself (`127.0.0.1`), which tells manifests, tokens and where blobs lie,
and a storage (`localhost`), which holds the bytes and must never see a credential. Strict means: a request
that no registry would understand is answered with its mistake, and counted in `mistakes`.

It runs in a thread of its own, so that tests of every kind can use it:

    with registry() as shop:
        model = shop.add("count", weights, template="{{ .Prompt }}")
        pull(model.name, insecure=True)
        assert shop.count("GET", model.weights) == 1
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiohttp import web

_MEDIA_TYPE: Final = "application/vnd.ollama.image."
MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG_TYPE: Final = "application/vnd.docker.container.image.v1+json"
_TOKEN: Final = "a-token-for-everybody"
_SIGNATURE: Final = "signed"
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)\Z")
_CHUNK_BYTES: Final = 2**14
_START_S: Final = 10.0
_CONFIG: Final = {
    "model_format": "gguf",
    "model_family": "llama",
    "model_families": ["llama"],
    "model_type": "1.2M",
    "file_type": "F16",
    "architecture": "amd64",
    "os": "linux",
    "rootfs": {"type": "layers", "diff_ids": []},
}


@dataclass(frozen=True, slots=True)
class Published:
    """One model of the registry."""

    name: str
    """Complete: `HOST:PORT/NAMESPACE/MODEL:TAG`."""
    manifest: bytes
    weights: str
    """Digest `sha256:…` of the blob with the weights."""
    digests: tuple[str, ...]
    """Of all blobs, in the order of a pull: the layers, then the configuration."""

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest in hex: the model's identity."""
        return hashlib.sha256(self.manifest).hexdigest()


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    range: tuple[int, int] | None
    """First and last byte that were asked for."""
    authorized: bool


@dataclass(slots=True)
class Faults:
    """What goes wrong, until a test sets it right again. Keys are digests."""

    cut: dict[str, list[int]] = field(default_factory=dict)
    """After how many bytes of the body the connection breaks: one entry a request, then no more."""
    spoiled: set[str] = field(default_factory=set)
    """Blobs whose bytes are wrong."""
    statuses: dict[str, list[int]] = field(default_factory=dict)
    """By digest or tag: how requests are answered instead, one entry each, then no more."""
    held: dict[str, int] = field(default_factory=dict)
    """After how many bytes each body stands still, until the entry is gone (`release`)."""
    pause_s: float = 0.0
    """Between two chunks of 16 KiB of a blob: a slow line."""
    ignores_ranges: bool = False
    """A range is answered with the whole blob and a 200."""


@dataclass(slots=True)
class Registry:
    """The registry, as a test sees it."""

    address: str
    storage: str
    tokens: bool
    redirects: bool
    loop: asyncio.AbstractEventLoop
    released: asyncio.Event = field(default_factory=asyncio.Event)
    faults: Faults = field(default_factory=Faults)
    asked: list[Asked] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    """Requests that no client should make."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    """By `NAMESPACE/MODEL:TAG`."""

    def add(self, name: str, weights: Path | bytes, **layers: Any) -> Published:
        """Publish a model.

        Args:
            name: `[NAMESPACE/]MODEL[:TAG]`.
            weights: A GGUF file or its bytes.
            layers: Contents by kind (template, system, params …); what is no text is told as JSON.
        """
        data = weights if isinstance(weights, bytes) else weights.read_bytes()
        parts = [self._layer(_MEDIA_TYPE + "model", data)]
        parts += [self._layer(_MEDIA_TYPE + kind, _bytes(content)) for kind, content in layers.items()]
        config = self._layer(_CONFIG_TYPE, _bytes(_CONFIG))
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": parts}
        path = self.publish(name, json.dumps(manifest).encode())
        digests = tuple(layer["digest"] for layer in (*parts, config))
        return Published(f"{self.address}/{path}", self.manifests[path], digests[0], digests)

    def publish(self, name: str, manifest: bytes) -> str:
        """Let any bytes be the manifest of a name; return `NAMESPACE/MODEL:TAG`."""
        path = name if "/" in name else f"library/{name}"
        path = path if ":" in path else f"{path}:latest"
        self.manifests[path] = manifest
        return path

    def release(self) -> None:
        """Let all bodies that stand still go on."""
        self.faults.held.clear()
        self.loop.call_soon_threadsafe(self.released.set)

    def count(self, method: str, part: str) -> int:
        """Return how many requests had `part` in their path; of blobs, those to the registry itself."""
        return sum(one.method == method and part in one.path and "/v2/" in one.path for one in self.asked)

    def fetched(self, digest: str) -> list[tuple[int, int] | None]:
        """Return the ranges in which a blob's bytes were asked for."""
        where = "/store/" if self.redirects else "/v2/"
        return [one.range for one in self.asked if digest in one.path and where in one.path]

    def _layer(self, media_type: str, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _bytes(content: object) -> bytes:
    return content.encode() if isinstance(content, str) else json.dumps(content).encode()


@contextmanager
def registry(*, tokens: bool = False, redirects: bool = True) -> Iterator[Registry]:
    """Run a registry.

    Args:
        tokens: It gives out a token, to everybody, and answers nobody without one.
        redirects: Its blobs lie at another host.
    """
    front, back, loop = _listener(), _listener(), asyncio.new_event_loop()
    shop = Registry(
        address=f"127.0.0.1:{front.getsockname()[1]}",
        storage=f"localhost:{back.getsockname()[1]}",
        tokens=tokens,
        redirects=redirects,
        loop=loop,
    )
    ready, over = threading.Event(), asyncio.Event()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(_serve(shop, (front, back), ready, over))
    )
    thread.start()
    try:
        assert ready.wait(_START_S), "the registry does not start"
        yield shop
    finally:
        shop.release()
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
    assert not shop.mistakes, shop.mistakes


def _listener() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


async def _serve(
    shop: Registry, sockets: tuple[socket.socket, socket.socket], ready: threading.Event, over: asyncio.Event
) -> None:
    handlers = _Handlers(shop)
    front, back = web.Application(), web.Application()
    front.add_routes(
        [
            web.get("/token", handlers.token, allow_head=False),
            web.get("/v2/{namespace}/{model}/manifests/{tag}", handlers.manifest, allow_head=False),
            web.get("/v2/{namespace}/{model}/blobs/{digest}", handlers.blob),
        ]
    )
    back.add_routes([web.get("/store/{digest}", handlers.stored)])
    runners = [web.AppRunner(app, access_log=None, shutdown_timeout=0.1) for app in (front, back)]
    for runner, listener in zip(runners, sockets, strict=True):
        await runner.setup()
        await web.SockSite(runner, listener).start()
    ready.set()
    await over.wait()
    for runner in runners:
        await runner.cleanup()


class _Handlers:
    """What the two hosts answer."""

    def __init__(self, shop: Registry) -> None:
        self._shop = shop

    async def token(self, request: web.Request) -> web.Response:
        """Give a token for what the challenge said, and for nothing else."""
        self._note(request)
        if request.query.get("service") != self._shop.address or not request.query.getall("scope", []):
            return self._mistake(request, 400, "a token needs the challenge's service and scope")
        return web.json_response({"token": _TOKEN})

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        """Tell what a model is made of."""
        self._note(request)
        part = request.match_info
        if refusal := self._refusal(request, part["tag"]):
            return refusal
        if MANIFEST_TYPE not in request.headers.get("Accept", ""):
            return self._mistake(request, 406, f"a manifest is told as {MANIFEST_TYPE} only")
        found = self._shop.manifests.get(f"{part['namespace']}/{part['model']}:{part['tag']}")
        if found is None:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
        return web.Response(body=found, headers={"Content-Type": MANIFEST_TYPE})

    async def blob(self, request: web.Request) -> web.StreamResponse:
        """Tell where a blob lies, or its bytes."""
        self._note(request)
        digest = request.match_info["digest"]
        if refusal := self._refusal(request, digest):
            return refusal
        if digest not in self._shop.blobs:
            return web.json_response({"errors": [{"code": "BLOB_UNKNOWN"}]}, status=404)
        if request.method == "HEAD":
            return web.Response(headers={"Content-Length": str(len(self._shop.blobs[digest]))})
        if not self._shop.redirects:
            return await self._send(request, digest)
        where = f"http://{self._shop.storage}/store/{digest}?sig={_SIGNATURE}"
        return web.Response(status=307, headers={"Location": where})

    async def stored(self, request: web.Request) -> web.StreamResponse:
        """Send what was asked of a blob, to everybody who was sent here."""
        self._note(request)
        if "Authorization" in request.headers:
            return self._mistake(request, 400, "the storage was given a credential")
        if request.query.get("sig") != _SIGNATURE:
            return self._mistake(request, 403, "no signature in the address")
        return await self._send(request, request.match_info["digest"])

    async def _send(self, request: web.Request, digest: str) -> web.StreamResponse:
        whole = self._shop.blobs[digest]
        span = _span_of(request)
        if span is not None and not span[0] <= span[1] < len(whole):
            return self._mistake(request, 416, f"the blob has {len(whole)} bytes")
        if span is None or self._shop.faults.ignores_ranges:
            return await self._pour(request, digest, web.StreamResponse(), whole)
        headers = {"Content-Range": f"bytes {span[0]}-{span[1]}/{len(whole)}"}
        part = whole[span[0] : span[1] + 1]
        return await self._pour(request, digest, web.StreamResponse(status=206, headers=headers), part)

    async def _pour(
        self, request: web.Request, digest: str, response: web.StreamResponse, data: bytes
    ) -> web.StreamResponse:
        faults = self._shop.faults
        cuts = faults.cut.get(digest)
        cut = cuts.pop(0) if cuts else None
        body = bytes(byte ^ 1 for byte in data) if digest in faults.spoiled else data
        response.content_length = len(data)
        with suppress(ConnectionError):  # the client left
            await response.prepare(request)
            sent = 0
            while sent < len(body) and sent != cut:
                await self._wait(digest, sent)
                end = self._end(digest, sent, len(body), cut)
                await response.write(body[sent:end])
                sent = end
            if cut is not None and request.transport is not None:
                request.transport.close()
        return response

    def _end(self, digest: str, sent: int, length: int, cut: int | None) -> int:
        stops = [sent + _CHUNK_BYTES, length]
        stops += [
            stop for stop in (cut, self._shop.faults.held.get(digest)) if stop is not None and stop > sent
        ]
        return min(stops)

    async def _wait(self, digest: str, sent: int) -> None:
        faults = self._shop.faults
        if faults.pause_s:
            await asyncio.sleep(faults.pause_s)
        while (stop := faults.held.get(digest)) is not None and sent >= stop:
            self._shop.released.clear()
            await self._shop.released.wait()

    def _refusal(self, request: web.Request, key: str) -> web.Response | None:
        if self._shop.tokens and request.headers.get("Authorization") != f"Bearer {_TOKEN}":
            realm = f'realm="http://{self._shop.address}/token"'
            scope = f'scope="repository:{request.match_info["namespace"]}/{request.match_info["model"]}:pull"'
            challenge = f'Bearer {realm},service="{self._shop.address}",{scope}'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        statuses = self._shop.faults.statuses.get(key)
        return web.Response(status=statuses.pop(0), text="out of order") if statuses else None

    def _note(self, request: web.Request) -> None:
        authorized = "Authorization" in request.headers
        self._shop.asked.append(Asked(request.method, request.path, _span_of(request), authorized))

    def _mistake(self, request: web.Request, status: int, text: str) -> web.Response:
        self._shop.mistakes.append(f"{request.method} {request.path}: {text}")
        return web.Response(status=status, text=text)


def _span_of(request: web.Request) -> tuple[int, int] | None:
    found = _RANGE.match(request.headers.get("Range", ""))
    return (int(found[1]), int(found[2])) if found else None
