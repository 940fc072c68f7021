"""A worker that misbehaves on the wire, in a process of its own: arguments FAULT [TIMES [AFTER]].

It lists one model, `count`, which is loaded, and answers /api/generate with two frames. AFTER requests are
answered well (0), the next TIMES (all) meet the fault, and those behind them are answered well again. Prints
its port once it listens, and then a line of JSON for each request that it was sent: `["POST",
"/api/generate", 3]`, the last being the number of its connection.

Faults: `slow` (well, but after a computation of 0.3 s), `mute` (no answer), `stall` (one frame and no more),
`no http`, `page` (200 in HTML), `too long` (a Content-Length beyond what comes), `too short`, `piece` (JSON
that ends in the middle), `stale` (closes a connection when a second request comes on it), `broken` (500 of a
dead runner), `reset`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from typing import Any, Final

MODEL: Final = {"name": "count:latest", "model": "count:latest", "digest": "digest-of-count", "size": 1000}
FRAME: Final = b'{"model":"count","response":"1","done":false}\n'
LAST: Final = b'{"model":"count","response":"","done":true,"prompt_eval_count":7,"eval_count":1}\n'
WHOLE: Final = b'{"model":"count","response":"1","done":true,"prompt_eval_count":7,"eval_count":1}'
ANSWERS: Final[dict[str, Any]] = {
    "/api/version": {"version": "0.24.0"},
    "/api/tags": {"models": [MODEL]},
    "/api/ps": {"models": [{**MODEL, "num_parallel": 2, "size_vram": 0, "context_length": 64}]},
    "/api/show": {"model_info": {}, "capabilities": ["completion"], "parameters": "", "details": {}},
}
_JSON: Final = "application/json"
BODIES: Final[dict[str, tuple[str, str, bytes, int]]] = {
    "page": ("200 OK", "text/html", b"<html>It works!</html>", 22),
    "too long": ("200 OK", _JSON, WHOLE, len(WHOLE) + 100),
    "too short": ("200 OK", _JSON, WHOLE, len(WHOLE) - 10),
    "piece": ("200 OK", _JSON, WHOLE[:-10], len(WHOLE) - 10),
    "broken": (
        "500 Internal Server Error",
        _JSON,
        b'{"error":"llama runner process has terminated: exit status 2"}',
        62,
    ),
}
"""Status, content type, body and the length that is told."""


@dataclass(slots=True)
class FaultyWorker:
    """The server."""

    fault: str
    times: float
    after: int = 0
    connections: int = 0
    never: asyncio.Event = field(default_factory=asyncio.Event)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the client closes it."""
        self.connections += 1
        number, asked = self.connections, 0
        try:
            while (request := await read_request(reader)) is not None:
                method, path, body = request
                print(json.dumps([method, path, number]), flush=True)  # noqa: T201 -- the parent reads it
                if path == "/api/generate" and "prompt" in body and self.fault == "stale" and asked:
                    return
                asked += 1
                await self.answer(path, body, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, path: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        """Answer one request, well or not."""
        if path != "/api/generate" or "keep_alive" in body:
            send(writer, json.dumps(ANSWERS.get(path, {"done": True})).encode(), "application/json")
        elif self.fault == "slow":
            await asyncio.sleep(0.3)  # what a computation takes
            well(writer, streams=body.get("stream", True))
        elif self.fault == "stale" or self.after > 0 or self.times <= 0:
            self.after -= 1
            well(writer, streams=body.get("stream", True))
        else:
            self.times -= 1
            await self.fail(writer)
        await writer.drain()

    async def fail(self, writer: asyncio.StreamWriter) -> None:
        """Commit the fault."""
        if self.fault in BODIES:
            status, content_type, body, length = BODIES[self.fault]
            send(writer, body, content_type, length=length, status=status)
        elif self.fault == "reset":
            writer.transport.abort()
        elif self.fault == "no http":
            writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        else:
            if self.fault == "stall":
                head(writer, "application/x-ndjson", "Transfer-Encoding: chunked")
                writer.write(b"%x\r\n%s\r\n" % (len(FRAME), FRAME))
            await self.never.wait()
        writer.close()


async def read_request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, Any]] | None:
    """Return method, path and JSON body; None when the client has closed."""
    try:
        top = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = top.split(" ", 2)
    lengths = [
        line.partition(":")[2] for line in top.split("\r\n") if line.lower().startswith("content-length")
    ]
    body = await reader.readexactly(int(lengths[0])) if lengths else b""
    return method, path, json.loads(body or b"{}")


def head(writer: asyncio.StreamWriter, content_type: str, framing: str, status: str = "200 OK") -> None:
    """Write an answer's head."""
    writer.write(f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{framing}\r\n\r\n".encode())


def send(
    writer: asyncio.StreamWriter,
    body: bytes,
    content_type: str,
    *,
    length: int | None = None,
    status: str = "200 OK",
) -> None:
    """Write an answer in one piece."""
    told = len(body) if length is None else length
    head(writer, content_type, f"Content-Length: {told}", status)
    writer.write(body)


def well(writer: asyncio.StreamWriter, *, streams: bool) -> None:
    """Write an answer as it should be."""
    if not streams:
        send(writer, WHOLE, "application/json")
        return
    head(writer, "application/x-ndjson", "Transfer-Encoding: chunked")
    for chunk in (FRAME, LAST, b""):
        writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))


async def main(fault: str, times: str = "inf", after: str = "0") -> None:
    """Serve until killed."""
    worker = FaultyWorker(fault, float(times), int(after))
    server = await asyncio.start_server(worker.connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 -- the parent reads it
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
