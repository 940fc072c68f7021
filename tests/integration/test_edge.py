from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from gateway.http import bodies, server
from supervisor.contract.config import GatewayConfig
from supervisor.contract.fleet import WorkerState
from tests.support.compressed import zstd_compress
from tests.support.fake_ollama import FakeOllama
from tests.support.gateway import Bench, gateway, until
from tests.support.raw_http import ask, head, send

ASK: Final = {"model": "count", "prompt": "hello"}
BODY: Final = json.dumps(ASK).encode()
PAGE: Final = "https://chat.example"

SENT: Final = frozenset(
    {"host", "user-agent", "accept-encoding", "content-type", "content-length", "x-request-id"}
)
"""All that a worker is ever told besides the body."""
SENT_BY_OLLAMA_PACKAGE: Final = SENT | {"accept", "connection"}


class StrictWorker(FakeOllama):
    """Takes offence at every header that it has no use for."""

    def add_routes(self, app: web.Application) -> None:
        @web.middleware
        async def look(request: web.Request, handler: Any) -> web.StreamResponse:
            own = "ollama-python" in request.headers.get("User-Agent", "")
            extra = {name.lower() for name in request.headers} - (SENT_BY_OLLAMA_PACKAGE if own else SENT)
            if extra or request.headers.get("Host") != f"{self.host}:{self.port}":
                self.offences.append(f"{request.method} {request.path}: {sorted(extra)}, {request.host}")
            response: web.StreamResponse = await handler(request)
            return response

        app.middlewares.append(look)


# Headers ----------------------------------------------------------------------


async def test_workers_see_nothing_of_what_a_client_sends_besides_its_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No credential, origin, cookie or hop-by-hop header, and their own Host; nor the operator's key."""
    monkeypatch.setenv("OLLAMA_API_KEY", "the operator's")
    headers = {
        "Host": "ollama.internal",
        "Authorization": "Bearer k",
        "X-Api-Key": "k",
        "Cookie": "a=b",
        "Origin": "http://localhost:3000",
        "Referer": "http://localhost:3000/x",
        "Proxy-Authorization": "Basic k",
        "X-Forwarded-For": "10.0.0.1",
        "TE": "trailers",
        "Upgrade": "h2c",
        "Keep-Alive": "timeout=5",
        "Accept-Encoding": "gzip",
        "Accept": "text/event-stream",
        "User-Agent": "curl",
        "X-OpenWebUI-User-Id": "me",
        "anthropic-version": "2023-06-01",
        "Content-Type": "text/plain",
        "X-Request-Id": "mine",
    }
    worker = StrictWorker("w0")
    async with gateway(tmp_path, worker) as bench:
        for target in ("/api/generate", "/api/chat", "/v1/chat/completions"):
            answer = await ask(bench.url, "POST", target, BODY, **headers)
            assert answer.status == 200
        assert (await ask(bench.url, "POST", "/api/show", BODY, **headers)).status == 200
        assert (await ask(bench.url, "GET", "/api/tags", **headers)).status == 200
    assert [seen["headers"]["x-request-id"] for seen in worker.served] == ["mine"] * 3


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/api/tags", 200),
        ("GET", "/api/ps", 200),
        ("GET", "/api/version", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/nothing", 404),
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/api/generate", 405),
        ("POST", "/api/generate", 400),
        ("POST", "/api/show", 400),
        ("GET", "/api/tags/", 301),
    ],
)
async def test_every_answer_has_the_requests_id(
    tmp_path: Path, method: str, target: str, status: int
) -> None:
    """The client's own if it gave a sane one, and no word of what the server runs on."""
    async with gateway(tmp_path, FakeOllama("w0")) as bench:
        named = await ask(bench.url, method, target, X_Request_Id="mine-1")
        unnamed = await ask(bench.url, method, target, X_Request_Id="not sane!")
    assert (named.status, named.headers["x-request-id"]) == (status, "mine-1")
    assert len(unnamed.headers["x-request-id"]) == 16
    assert "server" not in named.headers


async def test_refusals_because_of_too_much_say_when_to_come_again(tmp_path: Path) -> None:
    """1 to 30 seconds, which is what the SDKs wait for, also where no handler thought of it."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker, config=GatewayConfig(request_timeout=0.2)) as bench:
        worker.script.extend(["busy"] * 20)
        late = await bench.post()
        bench.publish(state=WorkerState.BACKOFF)
        async with bench.http.get(f"{bench.url}/corral/health") as health:
            while health.status != 503:
                await asyncio.sleep(0.01)
                health = await bench.http.get(f"{bench.url}/corral/health")  # noqa: PLW2901 -- until it is told
    assert late.status == 503
    assert 1 <= int(late.headers["Retry-After"]) <= 30
    assert 1 <= int(health.headers["Retry-After"]) <= 30


async def test_handler_that_fails_answers_in_the_clients_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an id that stands in the log beside the traceback, and no word of the code."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("gateway.http.inference.Contexts.check", fail)
    async with gateway(tmp_path, FakeOllama("w0")) as bench:
        native = await bench.post()
        openai = await bench.post("/v1/chat/completions")
    assert (native.status, openai.status) == (500, 500)
    known = {name.lower(): value for name, value in native.headers.items()}["x-request-id"]
    assert known in json.loads(native.text)["error"]
    assert "ZeroDivision" not in native.text + openai.text
    assert json.loads(openai.text)["error"]["type"] == "api_error"
    assert "ZeroDivisionError" in capsys.readouterr().out


# Pages ------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/", "/api/tags", "/api/generate", "/v1/models", "/nothing"])
async def test_page_of_a_foreign_origin_is_refused_before_anything_is_done(
    tmp_path: Path, target: str
) -> None:
    """403 and an empty body, as Ollama does."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        for method in ("GET", "POST", "OPTIONS"):
            answer = await ask(bench.url, method, target, BODY, Origin="https://evil.example")
            assert (answer.status, answer.body) == (403, b"")
            assert "access-control-allow-origin" not in answer.headers
    assert worker.served == []


async def test_without_configuration_no_answer_can_be_read_by_pages(tmp_path: Path) -> None:
    """Not even by those that may ask."""
    async with gateway(tmp_path, FakeOllama("w0")) as bench:
        for origin in ("", "http://localhost:3000", bench.url):
            answer = await ask(bench.url, "GET", "/api/tags", Origin=origin)
            assert answer.status == 200
            assert not any(name.startswith("access-control") for name in answer.headers)


async def test_configured_page_may_ask_first_and_then_read(tmp_path: Path) -> None:
    """Preflights are answered whatever the route; streams, errors and refusals can be read too."""
    config = GatewayConfig(cors_origins=(PAGE,))
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os,anthropic-version",
    }
    async with gateway(tmp_path, FakeOllama("w0"), config=config) as bench:
        before = await ask(bench.url, "OPTIONS", "/v1/chat/completions", **asked)
        answers = [
            await ask(bench.url, "POST", "/api/generate", BODY, Origin=PAGE),
            await ask(bench.url, "POST", "/api/generate", b"{", Origin=PAGE),
            await ask(bench.url, "GET", "/nothing", Origin=PAGE),
        ]
        other = await ask(
            bench.url, "OPTIONS", "/v1/chat/completions", **{**asked, "Origin": "https://b.example"}
        )
    assert (before.status, before.body) == (204, b"")
    assert before.headers["access-control-allow-origin"] == PAGE
    allowed = before.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "content-type", "x-stainless-os", "anthropic-version"} <= set(allowed)
    assert "POST" in before.headers["access-control-allow-methods"]
    assert [answer.status for answer in answers] == [200, 400, 404]
    assert [answer.headers["access-control-allow-origin"] for answer in answers] == [PAGE] * 3
    assert "X-Request-Id" in answers[0].headers["access-control-expose-headers"]
    assert other.status == 403


async def test_server_on_loopback_answers_to_its_own_names_only(tmp_path: Path) -> None:
    """Or a page whose name was made to mean 127.0.0.1 could ask it anything; also in absolute form."""
    async with gateway(tmp_path, FakeOllama("w0")) as bench:
        foreign = await ask(bench.url, "GET", "/api/tags", Host="evil.example")
        absolute = await ask(bench.url, "GET", "http://evil.example/api/tags")
        own = await ask(bench.url, "GET", "http://localhost/api/tags", Host="evil.example")
    assert (foreign.status, foreign.body, absolute.status, own.status) == (403, b"", 403, 200)


# Targets ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/api/./generate",
        "/api/x/../generate",
        "/api/%2e%2e/api/generate",
        "/api/generate%00",
        "/api/generate;x",
        "/api/generate/x",
        "/api/GENERATE",
        "/api/create/../generate",
        "//api/../generate",
    ],
)
async def test_only_the_exact_path_reaches_a_worker(tmp_path: Path, target: str) -> None:
    """Whatever else a server might take it for."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        answer = await ask(bench.url, "POST", target, BODY)
    assert answer.status == 404
    assert worker.served == []


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("//api/generate", "/api/generate"),
        ("/api//generate?a=b", "/api/generate?a=b"),
        ("///evil.example/x", "/evil.example/x"),
        ("http://localhost//api/generate", "/api/generate"),
    ],
)
async def test_repeated_slashes_are_shown_the_way(tmp_path: Path, target: str, location: str) -> None:
    """A base URL that ends with a slash makes them; no worker sees one, nobody is sent to another host."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        answer = await ask(bench.url, "POST", target, BODY)
    assert (answer.status, answer.headers["location"]) == (307, location)
    assert worker.served == []


async def test_closing_slash_is_shown_the_way(tmp_path: Path) -> None:
    """As Ollama's router does, with the method kept."""
    async with gateway(tmp_path, FakeOllama("w0")) as bench:
        get = await ask(bench.url, "GET", "/api/tags/?a=b")
        post = await ask(bench.url, "POST", "/api/chat/", BODY)
        nowhere = await ask(bench.url, "GET", "/nothing/")
    assert (get.status, get.headers["location"]) == (301, "/api/tags?a=b")
    assert (post.status, post.headers["location"]) == (307, "/api/chat")
    assert nowhere.status == 404


# Bodies -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense"]
)
async def test_content_type_does_not_matter(tmp_path: Path, kind: str) -> None:
    """Nor does none: curl sends a form's, litellm none."""
    async with gateway(tmp_path, FakeOllama("w0")) as bench:
        assert (await ask(bench.url, "POST", "/api/generate", BODY, Content_Type=kind)).status == 200
        assert (await ask(bench.url, "POST", "/api/generate", BODY)).status == 200


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("zstd", zstd_compress(BODY)),
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("identity", BODY),
        ("ZSTD", zstd_compress(BODY)),
    ],
)
async def test_compressed_bodies_are_read(tmp_path: Path, encoding: str, body: bytes) -> None:
    """As codex sends them; the worker gets them plain."""
    worker = StrictWorker("w0")
    async with gateway(tmp_path, worker) as bench:
        for target in ("/v1/chat/completions", "/api/generate"):
            answer = await ask(bench.url, "POST", target, body, Content_Encoding=encoding)
            assert answer.status == 200
    assert [seen["body"] for seen in worker.served] == [ASK] * 2


@pytest.mark.parametrize(
    ("encoding", "body", "status", "words"),
    [
        ("br", b"x", 415, "send gzip, deflate and zstd or none"),
        ("gzip, gzip", b"x", 415, "is not supported"),
        ("zstd", b"not zstd", 400, "no valid zstd"),
        ("gzip", gzip.compress(BODY, mtime=0)[:-5], 400, "ends early"),
        ("zstd", b"", 400, "EOF"),
    ],
)
async def test_bodies_that_cannot_be_decoded_are_refused(
    tmp_path: Path, encoding: str, body: bytes, status: int, words: str
) -> None:
    """With what would be right, in the client's shape."""
    async with gateway(tmp_path, FakeOllama("w0")) as bench:
        answer = await ask(
            bench.url,
            "POST",
            "/v1/chat/completions",
            body,
            Content_Encoding=encoding,
            Content_Length=str(len(body)),
        )
    assert answer.status == status
    assert words in json.loads(answer.body)["error"]["message"]


LIMIT: Final = 100_000


def sized(size_bytes: int) -> bytes:
    """Return a request of exactly so many bytes."""
    empty = len(json.dumps({**ASK, "prompt": ""}))
    return json.dumps({**ASK, "prompt": "x" * (size_bytes - empty)}).encode()


def chunked(data: bytes, size_bytes: int = 10_000) -> bytes:
    """Return a body in chunks."""
    parts = (data[at : at + size_bytes] for at in range(0, len(data), size_bytes))
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("way", ["with its length", "in chunks", "zstd", "gzip"])
@pytest.mark.parametrize("target", ["/api/generate", "/v1/completions"])
async def test_limit_of_a_body_is_exact_however_it_is_sent(tmp_path: Path, target: str, way: str) -> None:
    """As many bytes as the file says and not one more; decoded, for a compressed one."""
    worker = FakeOllama("w0", inference_routes=("/api/generate", "/v1/completions"))
    async with gateway(tmp_path, worker, config=GatewayConfig(max_body_size=LIMIT)) as bench:
        for size, status in ((LIMIT, 200), (LIMIT + 1, 413)):
            data, headers = sized(size), {}
            if way == "in chunks":
                data, headers = chunked(data), {"Transfer-Encoding": "chunked"}
            elif way in ("zstd", "gzip"):
                headers = {"Content-Encoding": way}
                data = zstd_compress(data) if way == "zstd" else gzip.compress(data, mtime=0)
            answer = await ask(bench.url, "POST", target, data, **headers)
            assert answer.status == status
    error = json.loads(answer.body)["error"]
    text = error["message"] if target.startswith("/v1/") else error
    assert text == f"the request body is larger than gateway.max_body_size ({LIMIT} bytes)"


async def test_bomb_is_refused_without_inflating_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is inflated than the limit and one piece; others are served meanwhile."""
    inflated: list[int] = []
    parts = bodies._parts

    async def counted(*arguments: Any) -> Any:
        async for part in parts(*arguments):
            inflated.append(len(part))
            yield part

    monkeypatch.setattr(bodies, "_parts", counted)
    bomb = zstd_compress(bytes(2**28))
    assert len(bomb) < 2**16
    limit = 2**20
    async with gateway(tmp_path, FakeOllama("w0"), config=GatewayConfig(max_body_size=limit)) as bench:
        answer = await ask(bench.url, "POST", "/v1/chat/completions", bomb, Content_Encoding="zstd")
    assert answer.status == 413
    assert sum(inflated) <= limit + 2**18


async def test_announced_size_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    """Nobody uploads a gigabyte to learn that it is too much."""
    async with gateway(tmp_path, FakeOllama("w0")) as bench:
        headers = {"Host": "localhost", "Content-Length": str(2**40), "Connection": "close"}
        async with asyncio.timeout(10):
            reader, writer = await connection(bench)
            writer.write(head("POST", "/api/generate", headers))
            assert (await reader.readline()).split()[1] == b"413"
            writer.close()


async def connection(bench: Bench) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to the gateway."""
    host, _, port = bench.url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def test_client_that_stops_in_the_middle_of_its_body_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets a 408 and the connection is closed; no worker has heard of it."""
    monkeypatch.setattr(bodies, "PAUSE_S", 0.1)
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench, asyncio.timeout(10):
        reader, writer = await connection(bench)
        writer.write(head("POST", "/api/generate", {"Host": "localhost", "Content-Length": "100"}) + b'{"mod')
        assert (await reader.readline()).split()[1] == b"408"
        writer.close()
    assert worker.served == []


async def test_client_that_trickles_its_body_for_ever_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However steadily it comes."""
    monkeypatch.setattr(bodies, "WHOLE_S", 0.3)
    async with gateway(tmp_path, FakeOllama("w0")) as bench, asyncio.timeout(10):
        reader, writer = await connection(bench)
        writer.write(head("POST", "/api/generate", {"Host": "localhost", "Content-Length": "100000"}))
        status = asyncio.create_task(reader.readline())
        while not status.done():
            writer.write(b" ")
            await asyncio.wait([status], timeout=0.02)
        assert status.result().split()[1] == b"408"
        writer.close()


async def test_broken_chunks_are_a_bad_request(tmp_path: Path) -> None:
    """And nothing of them reaches a worker."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        broken = b"5\r\n" + BODY[:5] + b"\r\nzz\r\n"
        answer = await ask(bench.url, "POST", "/api/generate", broken, Transfer_Encoding="chunked")
    assert answer.status == 400
    assert worker.served == []


# Connections ------------------------------------------------------------------


async def test_headers_that_never_end_are_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection has so long for a whole head, the first as well as any later one."""
    monkeypatch.setattr(server, "IDLE_S", 0.2)
    async with gateway(tmp_path, FakeOllama("w0")) as bench, asyncio.timeout(10):
        first, later = await connection(bench), await connection(bench)
        later[1].write(head("GET", "/", {"Host": "localhost"}))
        assert b"200" in await later[0].readline()
        for _, writer in (first, later):
            writer.write(b"GET / HTTP/1.1\r\nHost: loc")
        assert await first[0].read() == b""
        assert (await later[0].read()).count(b"HTTP/1.1") == 0
        for _, writer in (first, later):
            writer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS hello\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["a long header", "a long target", "many headers", "two lengths", "two hosts", "TLS", "no host"],
)
async def test_what_is_no_sound_request_is_answered_once_and_closed(tmp_path: Path, data: bytes) -> None:
    """With an id, in plain words, and without those of the parser."""
    async with gateway(tmp_path, FakeOllama("w0")) as bench:
        answer = await send(bench.url, data)
    assert (answer.status, answer.body) == (400, b"400 Bad Request")
    assert len(answer.headers["x-request-id"]) == 16


async def test_large_cookies_of_a_browser_are_let_through(tmp_path: Path) -> None:
    """A browser sends those of all servers on a host, of whatever port."""
    async with gateway(tmp_path, FakeOllama("w0")) as bench:
        assert (await ask(bench.url, "GET", "/api/tags", Cookie="a=" + "x" * 12_000)).status == 200


async def test_client_that_stops_reading_frees_its_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system cuts the connection once nothing was taken for as long as is allowed."""
    monkeypatch.setattr(server, "STALLED_S", 1)
    worker = Flood("w0", slots=1)
    async with gateway(tmp_path, worker) as bench, asyncio.timeout(30):
        reader, writer = await connection(bench)
        headers = {"Host": "localhost", "Content-Length": str(len(BODY))}
        writer.write(head("POST", "/api/generate", headers) + BODY)
        await reader.readline()
        await until(lambda: bool(worker.running), "the answer runs")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport can
        await until(lambda: not worker.running, "the slot is free")
        writer.transport.abort()


class Flood(FakeOllama):
    """Answers without an end, as fast as it is read."""

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:  # noqa: ARG002 -- a fake's
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        line = json.dumps({"model": "count", "response": "x" * 60_000, "done": False}).encode() + b"\n"
        while True:
            await response.write(line)


# Harm -------------------------------------------------------------------------


class Knowing(FakeOllama):
    """Tells its vocabulary when it is asked for all it knows."""

    async def show(self, request: web.Request) -> web.Response:
        verbose = (await request.json()).get("verbose", False)
        tokens = [f"t{number}" for number in range(50)] if verbose else None
        return web.json_response(
            {"model_info": {"tokenizer.ggml.tokens": tokens}, "capabilities": ["completion"], "details": {}}
        )


async def test_context_beyond_the_vocabulary_is_refused(tmp_path: Path) -> None:
    """The last token of the model passes, the one behind it would end the worker."""
    worker = Knowing("w0")
    async with gateway(tmp_path, worker) as bench:
        assert (await bench.post(context=[0, 49])).status == 200
        refused = await bench.post(context=[50])
    assert refused.status == 400
    assert json.loads(refused.text)["error"].startswith("context holds 50, but count has only 50 tokens")
    assert len(worker.served) == 1


async def test_context_passes_where_no_worker_tells_the_vocabulary(tmp_path: Path) -> None:
    """Only what is out of range for every model is refused then."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        assert (await bench.post(context=[99999999])).status == 200
        assert (await bench.post(context=[2**31])).status == 400
        assert (await bench.post(context=[-1])).status == 400


@pytest.mark.parametrize(("engine", "status"), [("ollama", 400), ("embedded", 200)])
async def test_schema_that_ends_an_ollama_is_refused_only_where_one_would_get_it(
    tmp_path: Path, engine: str, status: int
) -> None:
    """Our own worker judges for itself."""
    worker = FakeOllama("w0")
    deadly = {"type": "string", "pattern": "^*$"}
    async with gateway(tmp_path, worker, engine=engine) as bench:
        assert (await bench.post(format=deadly)).status == status
        assert (await bench.post(format={"type": "string", "pattern": "^a*$"})).status == 200
    assert len(worker.served) == (2 if status == 200 else 1)
