from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.corral import COMMAND
from tests.support.fake_ollama import FakeOllama
from tests.support.gateway import Bench, gateway, until
from tests.support.gateway_command import GATEWAY, command, config_file, up


async def ask(bench: Bench, request: str, **changes: Any) -> int:
    """Send one generate request under an id and return the status."""
    return await send(f"{bench.url}/api/generate", bench, request, **changes)


async def send(url: str, bench: Bench, request: str, **changes: Any) -> int:
    """Send it there."""
    body = {"model": "count", "prompt": "hello", **changes}
    async with bench.http.post(url, json=body, headers={"X-Request-Id": request}) as response:
        await response.read()
        return response.status


async def cli(*argv: str | Path, stdin: str = "") -> tuple[int, str, str]:
    """Run `corral explain` and return exit code, output and complaints."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        COMMAND, "explain", *argv, stdin=pipe, stdout=pipe, stderr=pipe
    )
    out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 20)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def told(bench: Bench, request: str) -> str:
    """Return what the command says to a person."""
    code, out, err = await cli(request, "--runtime-dir", Path(bench.admin_socket).parent)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    return out


async def document(bench: Bench, request: str) -> dict[str, Any]:
    """Return the whole structure."""
    code, out, err = await cli(request, "--json", "--runtime-dir", Path(bench.admin_socket).parent)
    assert (code, err) == (0, "")
    whole: dict[str, Any] = json.loads(out)
    return whole


async def test_a_request_that_waited_for_a_load_is_explained_with_it(tmp_path: Path) -> None:
    """While it waits, and afterwards with what was unloaded for it and how long the load took."""
    worker = FakeOllama("w0")
    async with gateway(tmp_path, worker) as bench:
        await ask(bench, "first")
        worker.load_gate = asyncio.Event()
        asking = asyncio.create_task(ask(bench, "second", model="other"))
        await until(lambda: worker.loading == 1, "the load is under way")
        waiting, words_before = await document(bench, "second"), await told(bench, "second")
        worker.load_gate.set()
        assert await asking == 200
        ended, words = await document(bench, "second"), await told(bench, "second")
    assert (waiting["state"], waiting["model"]) == ("waiting", "other:latest")
    assert [load["model"] for load in waiting["loads_under_way"]] == ["other:latest"]
    assert "other:latest is being loaded on w0 (load 2)" in words_before
    (attempt,) = ended["attempts"]
    assert (ended["state"], ended["outcome"], attempt["worker"]) == ("ended", "done", "w0")
    assert attempt["options"][0]["slots"] == 2
    load = attempt["load"]
    assert (load["cause"], load["unloaded"], load["queued"]) == ("first", ["count:latest"], 1)
    assert load["options"][0]["victims"] == ["count:latest"]
    assert 0 < load["seconds"] <= attempt["waited_s"]
    assert "Unloaded to make room: count:latest" in words
    assert "The load took" in words


async def test_a_request_that_found_a_free_slot_is_explained_without_a_load(tmp_path: Path) -> None:
    """With every free worker that was compared."""
    workers = FakeOllama("w0"), FakeOllama("w1")
    workers[0].loaded.add("count")
    workers[1].loaded.add("count")
    async with gateway(tmp_path, *workers) as bench:
        await ask(bench, "only")
        whole, words = await document(bench, "only"), await told(bench, "only")
    (attempt,) = whole["attempts"]
    assert attempt["load"] is None
    assert {option["worker"] for option in attempt["options"]} == {"w0", "w1"}
    assert attempt["options"][0]["total_s"] <= attempt["options"][1]["total_s"]
    assert attempt["turn"] == "alone"
    assert "loaded" not in words
    assert words.count("> w") == 1


async def test_a_request_that_was_made_again_is_explained_with_both_attempts(tmp_path: Path) -> None:
    """Each with where and how it failed."""
    workers = FakeOllama("w0"), FakeOllama("w1")
    workers[0].script += ["reset", "reset"]  # on a pooled connection once is no failure
    async with gateway(tmp_path, *workers) as bench:
        assert await ask(bench, "twice") == 200
        whole, words = await document(bench, "twice"), await told(bench, "twice")
    first, second = whole["attempts"]
    assert (first["worker"], second["worker"]) == ("w0", "w1")
    assert (second["turn"], "error" in second) == ("returned", False)
    assert first["error"] in words
    assert "Attempt 2: To w1" in words


async def test_a_rejected_request_is_explained_with_the_reason_and_the_numbers(tmp_path: Path) -> None:
    """As the client was told, in words."""
    worker = FakeOllama("w0", slots=1)
    worker.script.append("hold")
    async with gateway(tmp_path, worker, max_queue=1) as bench:
        running = asyncio.create_task(ask(bench, "running"))
        await until(lambda: len(worker.running) == 1, "one answer runs")
        waiting = asyncio.create_task(ask(bench, "waiting"))
        await until_state(bench, "waiting", "waiting")
        assert (await document(bench, "running"))["state"] == "running"
        words_waiting, words_running = await told(bench, "waiting"), await told(bench, "running")
        assert await ask(bench, "refused") == 503
        whole, words = await document(bench, "refused"), await told(bench, "refused")
        worker.hold.set()
        await asyncio.gather(running, waiting)
    assert "it waits for a slot to become free" in words_waiting
    assert "It has waited for " in words_waiting
    assert "It has been under way for " in words_running
    assert (whole["rejected"], whole["status"]) == ("queue_full", 503)
    assert "Refused with 503" in words
    assert "1 requests wait for this model already" in words


async def test_a_load_that_failed_is_why_a_request_was_refused(tmp_path: Path) -> None:
    """In the engine's own words."""
    worker = FakeOllama("w0")
    worker.load_errors.append("unsupported architecture")
    async with gateway(tmp_path, worker) as bench:
        assert await ask(bench, "lost") == 500
        words = await told(bench, "lost")
    assert "the model could not be loaded" in words
    assert "unsupported architecture" in words


async def test_an_unknown_id_says_where_older_ones_are(tmp_path: Path) -> None:
    """Exit code 1; so is the beginning of several."""
    async with gateway(tmp_path, FakeOllama("w0")) as bench:
        await ask(bench, "abc-1")
        await ask(bench, "abc-2")
        directory = Path(bench.admin_socket).parent
        unknown = await cli("nope", "--runtime-dir", directory)
        several = await cli("abc", "--runtime-dir", directory)
        one = await cli("abc-2", "--runtime-dir", directory)
    assert unknown[0] == several[0] == 1
    assert "no request 'nope' is known" in unknown[2]
    assert "corral explain nope --log FILE" in unknown[2]
    assert "2 requests begin with 'abc': abc-1, abc-2" in several[2]
    assert one[0] == 0


async def test_two_clients_may_choose_the_same_id(tmp_path: Path) -> None:
    """Both are answered, and the later one is explained."""
    worker = FakeOllama("w0")
    worker.script.extend(["hold", "hold"])
    async with gateway(tmp_path, worker) as bench:
        both = [asyncio.create_task(ask(bench, "job")) for _ in range(2)]
        await until(lambda: len(worker.running) == 2, "both are answered")
        worker.hold.set()
        assert await asyncio.gather(*both) == [200, 200]
        assert (await document(bench, "job"))["state"] == "ended"


async def test_a_client_that_left_while_it_waited_is_explained_as_that(tmp_path: Path) -> None:
    """It got no slot."""
    worker = FakeOllama("w0", slots=1)
    worker.script.append("hold")
    async with gateway(tmp_path, worker) as bench:
        running = asyncio.create_task(ask(bench, "running"))
        await until(lambda: len(worker.running) == 1, "one answer runs")
        waiting = asyncio.create_task(ask(bench, "waiting"))
        await until_state(bench, "waiting", "waiting")
        waiting.cancel()
        await asyncio.wait([waiting])
        await until_state(bench, "waiting", "ended")
        words = await told(bench, "waiting")
        worker.hold.set()
        await running
    assert "Client gone" in words
    assert "No slot." in words


async def until_state(bench: Bench, request: str, state: str) -> None:
    """Wait until the request is so far."""
    async with asyncio.timeout(10):
        while (await _get(bench, request)).get("state") != state:  # noqa: ASYNC110 -- of another process
            await asyncio.sleep(0.01)


async def _get(bench: Bench, request: str) -> dict[str, Any]:
    connector = aiohttp.UnixConnector(bench.admin_socket)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"http://corral/corral/requests/{request}") as response,
    ):
        answer: dict[str, Any] = await response.json()
        return answer


async def test_the_log_explains_what_the_gateway_did_after_it_has_gone(tmp_path: Path) -> None:
    """Word for word the same, from a file and from a pipe, by the whole id or its beginning."""
    async with up(FakeOllama("far")) as far:
        file = config_file(tmp_path, far)
        async with command(*GATEWAY, "--config", file) as corral:
            url = await corral.greeting()
            async with gateway(tmp_path) as bench:  # for its client
                assert await send(f"{url}/api/generate", bench, "req-1") == 200
                assert await send(f"{url}/api/generate", bench, "req-2", model="other") == 200
            live = await cli("req-2", "--config", file)
            whole = json.loads((await cli("req-2", "--json", "--config", file))[1])
            corral.process.terminate()
            log = await corral.said()
    (tmp_path / "log").write_text(log)
    assert live[0] == 0
    assert await cli("req-2", "--log", tmp_path / "log") == live
    assert (await cli("req-2", "--log", "-", stdin=log)) == live
    again = json.loads((await cli("req-2", "--json", "--log", tmp_path / "log"))[1])
    assert again == whole
    unknown = await cli("req-3", "--log", tmp_path / "log")
    assert (unknown[0], "log.format: json" in unknown[2]) == (1, True)
    assert "begin with 'req'" in (await cli("req", "--log", tmp_path / "log"))[2]
    assert (await cli("req", "--log", tmp_path / "nothing"))[0] == 2
