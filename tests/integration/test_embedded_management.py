"""The management half of the Ollama API at embedded workers, and a real Ollama over the same store."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import ollama
import pytest

from tests.support.embedded_worker import Answer, WorkerProcess, embedded_worker, wait_until
from tests.support.models import counting_model
from tests.support.real_ollama import MISSING, binary, real_ollama
from tests.support.registry import Registry, registry

FROM_41 = "{{ range .Messages }}{{ .Content }} {{ end }}41"
GREEDY = {"temperature": 0, "num_predict": 3}
NEEDS_OLLAMA = pytest.mark.skipif(binary() is None, reason=MISSING)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The counting model."""
    return counting_model(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker that has a directory of GGUF files, an empty one, and nothing else."""
    with embedded_worker(tmp_path) as process:
        yield process


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker for requests that change nothing."""
    with embedded_worker(tmp_path_factory.mktemp("refusing")) as process:
        yield process


@pytest.fixture
def shop() -> Iterator[Registry]:
    """A registry."""
    with registry() as running:
        yield running


def send(worker: WorkerProcess, method: str, path: str, data: bytes | None = None) -> Answer:
    """Send bytes."""
    connection = HTTPConnection("127.0.0.1", worker.port, timeout=20)
    try:
        connection.request(method, path, data)
        response = connection.getresponse()
        return Answer(response.status, response.read().decode())
    finally:
        connection.close()


def upload(worker: WorkerProcess, path: Path) -> str:
    """Send a file as a blob and return its digest."""
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert send(worker, "POST", f"/api/blobs/{digest}", path.read_bytes()).status in (200, 201)
    return digest


def created(worker: WorkerProcess, name: str, path: Path, **fields: Any) -> str:
    """Create a model of a file and return the digest of its weights."""
    digest = upload(worker, path)
    answer = worker.post("/api/create", model=name, files={path.name: digest}, stream=False, **fields)
    assert (answer.status, answer.json) == (200, {"status": "success"})
    return digest


def names(worker: WorkerProcess) -> set[str]:
    """Return the models that it lists."""
    return {row["name"] for row in worker.get("/api/tags")["models"]}


def blobs(store: Path) -> set[str]:
    """Return what lies among the blobs."""
    return {path.name for path in (store / "blobs").iterdir()}


def says(worker: WorkerProcess, model: str, **fields: Any) -> list[str]:
    """Return the words of an answer."""
    messages = [{"role": "user", "content": "1 2"}]
    answer = worker.post("/api/chat", model=model, messages=messages, stream=False, options=GREEDY, **fields)
    assert answer.status == 200, answer.text
    content: str = answer.json["message"]["content"]
    return content.split()


def test_a_box_without_anything_can_be_filled(worker: WorkerProcess, shop: Registry, weights: Path) -> None:
    """A pulled model is there and answers."""
    model = shop.add("count", weights, template=FROM_41)
    lines = worker.post("/api/pull", model=model.name, insecure=True).frames
    assert lines[0] == {"status": "pulling manifest"}
    assert lines[-1] == {"status": "success"}
    [row] = worker.get("/api/tags")["models"]
    assert (row["name"], row["digest"]) == (model.name, model.digest)
    assert says(worker, model.name) == ["42", "43", "44"]


def test_a_pull_that_is_not_streamed_has_one_answer(
    worker: WorkerProcess, shop: Registry, weights: Path
) -> None:
    """Success, or the error with its status."""
    model = shop.add("count", weights)
    whole = worker.post("/api/pull", model=model.name, insecure=True, stream=False)
    assert (whole.status, whole.json) == (200, {"status": "success"})
    refused = worker.post("/api/pull", model=f"{shop.address}/a/b", insecure=True, stream=False)
    assert (refused.status, refused.json) == (500, {"error": "pull model manifest: file does not exist"})


def test_a_failed_pull_says_so_in_its_last_line(worker: WorkerProcess, shop: Registry) -> None:
    """As Ollama does, once the stream has begun."""
    answer = worker.post("/api/pull", model=f"{shop.address}/a/b", insecure=True)
    assert answer.status == 200
    assert answer.frames[-1] == {"error": "pull model manifest: file does not exist"}


def test_a_killed_pull_goes_on(tmp_path: Path, shop: Registry, weights: Path) -> None:
    """After kill -9 in its middle, in another process, with what was there."""
    model = shop.add("count", weights)
    size = weights.stat().st_size
    shop.faults.held[model.weights] = size - 1
    with embedded_worker(tmp_path) as first:
        _, lines = first.lines("/api/pull", model=model.name, insecure=True)
        wait_until(lambda: json.loads(next(lines)).get("completed", 0) >= 2**20, "a MiB is there")
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    shop.release()
    assert names_on_disk(tmp_path / "store") == []
    with embedded_worker(tmp_path) as second:
        assert second.post("/api/pull", model=model.name, insecure=True).frames[-1] == {"status": "success"}
        first_range, last_range = shop.fetched(model.weights)
        assert first_range == (0, size - 1)
        assert last_range is not None
        assert last_range[0] >= 2**20
        assert names(second) == {model.name}


def names_on_disk(store: Path) -> list[str]:
    """Return the manifests that are there."""
    return [path.name for path in (store / "manifests").glob("*/*/*/*")]


def test_a_client_that_leaves_ends_a_pull(worker: WorkerProcess, shop: Registry, weights: Path) -> None:
    """The next one goes on with what is there."""
    model = shop.add("count", weights)
    shop.faults.held[model.weights] = weights.stat().st_size - 1
    connection, lines = worker.lines("/api/pull", model=model.name, insecure=True)
    wait_until(lambda: json.loads(next(lines)).get("completed", 0) >= 2**20, "a MiB is there")
    lines.close()  # type: ignore[attr-defined] # a generator
    connection.close()
    shop.release()
    assert worker.post("/api/pull", model=model.name, insecure=True).frames[-1] == {"status": "success"}
    assert names(worker) == {model.name}


def test_models_are_created_from_files(worker: WorkerProcess, tmp_path: Path, weights: Path) -> None:
    """With what is asked for beside the weights, in a store that comes to be with them."""
    created(
        worker, "mine", weights, template=FROM_41, system="s", parameters={"num_ctx": 64}, license=["a", "b"]
    )
    shown = worker.post("/api/show", model="mine").json
    assert (shown["template"], shown["system"], shown["license"]) == (FROM_41, "s", "a\nb")
    assert shown["parameters"].split() == ["num_ctx", "64"]
    assert says(worker, "mine") == ["42", "43", "44"]
    assert names_on_disk(tmp_path / "store") == ["latest"]


def test_a_model_without_a_template_uses_that_of_its_weights(worker: WorkerProcess, weights: Path) -> None:
    """A GGUF file that can chat still can, once it is a model."""
    created(worker, "mine", weights)
    shown = worker.post("/api/show", model="mine").json
    assert "im_start" in shown["template"]
    assert "TEMPLATE" not in shown["modelfile"]
    answer = worker.post(
        "/api/chat", model="mine", messages=[{"role": "user", "content": "7"}], _debug_render_only=True
    )
    assert "<|im_start|>user\n7<|im_end|>" in answer.json["_debug_info"]["rendered_template"]


def test_models_are_created_from_models(worker: WorkerProcess, weights: Path) -> None:
    """What is not asked for is the base's; the lines tell which layers are new."""
    created(worker, "base", weights, template=FROM_41, system="old")
    lines = worker.post("/api/create", model="derived", **{"from": "base"}, system="new").frames
    kinds = [line["status"].partition(" sha256")[0] for line in lines]
    assert kinds == [*["using existing layer"] * 2, "creating new layer", "writing manifest", "success"]
    shown = worker.post("/api/show", model="derived").json
    assert (shown["template"], shown["system"]) == (FROM_41, "new")
    assert shown["details"]["parent_model"] == "base:latest"


def test_a_gguf_file_of_the_directory_can_be_a_base(worker: WorkerProcess, tmp_path: Path) -> None:
    """Its bytes are copied, so that the file may change or go."""
    counting_model(tmp_path, name="file")
    lines = worker.post("/api/create", model="made", **{"from": "file"}, template=FROM_41).frames
    assert lines[-1] == {"status": "success"}
    assert worker.post("/api/copy", source="file", destination="copied").status == 200
    assert send(worker, "DELETE", "/api/delete", b'{"model": "file"}').status == 200
    assert not (tmp_path / "file.gguf").exists()
    assert names(worker) == {"made:latest", "copied:latest"}
    assert says(worker, "made") == ["42", "43", "44"]


def test_a_copy_of_a_gguf_file_shares_its_runner(worker: WorkerProcess, tmp_path: Path) -> None:
    """The weights then lie in two files; who knows digests only must not be surprised by a second load."""
    counting_model(tmp_path, name="file")
    assert names(worker) == {"file:latest"}  # its digest is known then
    assert says(worker, "file")
    assert worker.post("/api/copy", source="file", destination="copied").status == 200
    assert says(worker, "copied") == says(worker, "file")
    assert len(worker.get("/corral/slots")["models"]) == 1
    assert send(worker, "DELETE", "/api/delete", b'{"model": "file"}').status == 200
    assert says(worker, "copied")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "neither 'from' or 'files' was specified"),
        ({"files": {}}, "unknown type"),
        ({"files": {"../x.gguf": "sha256:" + "0" * 64}}, "file path must be relative"),
        ({"files": {"x.gguf": "x"}}, "invalid digest format"),
        ({"files": {"x.gguf": "sha256:" + "0" * 64}}, "there is no blob sha256:0000"),
        ({"files": {"x.safetensors": "sha256:" + "0" * 64}}, "reads GGUF files alone"),
        ({"from": "x y"}, "invalid model name"),
        ({"from": "x", "adapters": {"a": "sha256:" + "0" * 64}}, "cannot apply adapters"),
        ({"from": "x", "quantize": "q4_0"}, "cannot quantize"),
        ({"from": "x", "template": "{{ .Foo"}, "template error: "),
        ({"from": "x", "license": 3}, "number into Go value of type []string"),
        ({"from": "x", "license": {}}, "object into Go value of type []string"),
        ({"from": "x", "license": [3]}, "number into Go value of type string"),
        ({"from": "x", "info": {"context_length": "9"}}, "info.context_length must be a whole number"),
        ({"model": "::", "from": "x"}, "invalid model name"),
    ],
)
def test_a_create_that_cannot_be_done_is_a_clear_400(
    refusing: WorkerProcess, fields: dict[str, Any], error: str
) -> None:
    """Before anything begins."""
    answer = refusing.post("/api/create", **{"model": "new", **fields})
    assert answer.status == 400
    assert error in answer.json["error"]


def test_bytes_that_are_no_whole_gguf_file_make_no_model(
    worker: WorkerProcess, tmp_path: Path, weights: Path
) -> None:
    """Neither other files nor one that lacks its end."""
    (tmp_path / "text").write_bytes(b"no GGUF" * 100)
    (tmp_path / "cut").write_bytes(weights.read_bytes()[:-1])
    for name, error in (("text", "not in GGUF format"), ("cut", "exceeds file size")):
        digest = upload(worker, tmp_path / name)
        answer = worker.post("/api/create", model="new", files={name: digest}, stream=False)
        assert answer.status == 400
        assert error in answer.json["error"]


def test_blobs_are_taken_and_checked(worker: WorkerProcess, tmp_path: Path) -> None:
    """As Ollama answers: 201, then 200; 400 for other bytes, which are kept nowhere."""
    data = os.urandom(3 * 2**20)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    path = f"/api/blobs/{digest}"
    assert send(worker, "HEAD", path).status == 404
    wrong = send(worker, "POST", path, data[:-1])
    assert wrong.status == 400
    assert wrong.json["error"].startswith(f'digest mismatch, expected "{digest}", got "sha256:')
    assert send(worker, "POST", path, data).status == 201
    assert send(worker, "POST", path, data).status == 200
    assert send(worker, "HEAD", path).status == 200
    assert blobs(tmp_path / "store") == {digest.replace(":", "-")}
    assert send(worker, "POST", "/api/blobs/sha256:12", b"").json == {"error": "invalid digest format"}


def test_a_copy_shares_the_weights_and_outlives_its_source(worker: WorkerProcess, weights: Path) -> None:
    """A second name, whatever the case in which the first is written."""
    created(worker, "one", weights, template=FROM_41)
    assert worker.post("/api/copy", source="ONE", destination="box/two:x").status == 200
    assert send(worker, "DELETE", "/api/delete", b'{"model": "one"}').status == 200
    assert names(worker) == {"box/two:x"}
    assert says(worker, "box/two:x") == ["42", "43", "44"]


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("copy", {"source": "nope", "destination": "x"}, 404, 'model "nope" not found'),
        ("copy", {"source": "", "destination": "x"}, 400, 'source "" is invalid'),
        ("copy", {"source": "x", "destination": "d:::"}, 400, 'destination "d:::" is invalid'),
        ("delete", {"model": "nope"}, 404, "model 'nope' not found"),
        ("delete", {"name": "::"}, 400, 'name "::" is invalid'),
        ("delete", {}, 400, "model is required"),
        ("pull", {}, 400, "invalid model name"),
        ("push", {}, 400, "model is required"),
        ("push", {"model": "x"}, 501, "the embedded engine cannot push models: "),
    ],
)
def test_refusals_are_ollamas(
    refusing: WorkerProcess, path: str, body: dict[str, str], status: int, error: str
) -> None:
    """To the letter where Ollama has one."""
    method = "DELETE" if path == "delete" else "POST"
    answer = send(refusing, method, f"/api/{path}", json.dumps(body).encode())
    assert answer.status == status
    assert answer.json["error"].startswith(error)


def test_a_model_that_is_deleted_is_unloaded(worker: WorkerProcess, tmp_path: Path, weights: Path) -> None:
    """When the answer comes, its runner has ended and its blobs are gone."""
    created(worker, "one", weights)
    says(worker, "one")
    assert len(worker.runners()) == 1
    assert send(worker, "DELETE", "/api/delete", b'{"model": "one"}').status == 200
    assert worker.runners() == []
    assert blobs(tmp_path / "store") == set()
    assert worker.post("/api/chat", model="one", messages=[]).status == 404


def test_a_model_that_is_replaced_is_loaded_anew(
    worker: WorkerProcess, tmp_path: Path, weights: Path
) -> None:
    """And the runner of the old weights goes."""
    created(worker, "one", weights)
    says(worker, "one")
    [old] = worker.runners()
    created(worker, "one", counting_model(tmp_path / "new", words=50), template=FROM_41)
    assert says(worker, "one") == ["42", "43", "44"]
    wait_until(lambda: old not in worker.runners(), "the old runner ends")


def test_a_name_that_a_gguf_file_has_is_not_written_to(worker: WorkerProcess, tmp_path: Path) -> None:
    """The file would be served instead."""
    counting_model(tmp_path, name="file")
    for path, body in (
        ("pull", {"model": "file"}),
        ("create", {"model": "FILE", "from": "x"}),
        ("copy", {"source": "file", "destination": "file"}),
    ):
        answer = worker.post(f"/api/{path}", **body)
        assert answer.status == 400
        assert "would be served instead of the new model" in answer.json["error"]


def test_other_workers_see_a_change_at_once(tmp_path: Path, shop: Registry, weights: Path) -> None:
    """They look at the files whenever they are asked."""
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(embedded_worker(made(tmp_path / name), OLLAMA_MODELS=tmp_path / "store"))
            for name in ("a", "b")
        )
        model = shop.add("count", weights, template=FROM_41)
        assert first.post("/api/pull", model=model.name, insecure=True).status == 200
        assert names(second) == {model.name}
        assert says(second, model.name) == ["42", "43", "44"]
        created(first, "mine", weights, template="{{ .Prompt }} 50")
        assert says(second, "mine") == ["51", "52", "53"]
        created(first, "mine", weights, template="{{ .Prompt }} 60")
        assert says(second, "mine") == ["61", "62", "63"]
        assert send(first, "DELETE", "/api/delete", b'{"model": "mine"}').status == 200
        assert names(second) == {model.name}
        assert second.post("/api/chat", model="mine", messages=[]).status == 404


def test_what_was_replaced_by_another_worker_is_told_apart_and_can_be_unloaded(
    tmp_path: Path, weights: Path
) -> None:
    """A list that gave old weights the new digest would hide them for ever: a copy's name reaches them."""
    with (
        embedded_worker(tmp_path, OLLAMA_MODELS=tmp_path / "store") as first,
        embedded_worker(made(tmp_path / "second"), OLLAMA_MODELS=tmp_path / "store") as second,
    ):
        old = created(first, "mine", weights)
        assert says(second, "mine")
        before = [row["digest"] for row in second.get("/api/ps")["models"]]
        assert first.post("/api/copy", source="mine", destination="old").status == 200
        changed = made(tmp_path / "elsewhere") / "count.gguf"
        changed.write_bytes(weights.read_bytes() + bytes(32))
        new = created(first, "mine", changed)
        assert [row["digest"] for row in second.get("/api/ps")["models"]] == before
        assert says(second, "mine")
        assert {row["weights"] for row in second.get("/api/ps")["models"]} == {old, new}
        assert second.post("/api/generate", model="old", keep_alive=0).status == 200
        wait_until(lambda: len(second.runners()) == 1, "the old weights are gone")
        assert [row["weights"] for row in second.get("/api/ps")["models"]] == [new]
        assert second.post("/api/generate", model="mine", keep_alive=0).status == 200
        wait_until(lambda: second.runners() == [], "and the new ones")


def made(path: Path) -> Path:
    """Make a directory."""
    path.mkdir()
    return path


def test_the_python_client_fills_a_box(worker: WorkerProcess, shop: Registry, weights: Path) -> None:
    """Pull with progress, create from a file and from a model, copy, show, delete."""
    model = shop.add("count", weights)
    with closing(ollama.Client(f"http://127.0.0.1:{worker.port}")) as client:
        progress = list(client.pull(model.name, insecure=True, stream=True))
        client.create("mine", files={"count.gguf": client.create_blob(weights)}, template=FROM_41)
        client.create("derived", from_="mine", system="s")
        assert client.show("derived").template == FROM_41
        client.copy("derived", "other")
        client.delete("derived")
        client.delete(model.name)
        assert {row.model for row in client.list().models} == {"mine:latest", "other:latest"}
        with pytest.raises(ollama.ResponseError, match="file does not exist"):
            client.pull(f"{shop.address}/library/nope", insecure=True)
    assert progress[-1].status == "success"
    assert max(step.completed or 0 for step in progress) == weights.stat().st_size


@NEEDS_OLLAMA
def test_a_real_ollama_runs_what_was_made_here(tmp_path: Path, shop: Registry, weights: Path) -> None:
    """Pulled and created models, in the same store, and what it makes of them runs here again."""
    found = binary()
    assert found is not None
    with (
        real_ollama(found, tmp_path) as real,
        embedded_worker(made(tmp_path / "none"), OLLAMA_MODELS=real.store) as worker,
    ):
        pulled = shop.add("count", weights, template=FROM_41).name
        assert worker.post("/api/pull", model=pulled, insecure=True).status == 200
        created(worker, "mine", weights, template=FROM_41, parameters={"temperature": 0}, license="free")
        real.derive("theirs", "mine", system="s")
        for model in (pulled, "mine", "theirs"):
            _, answer = real.post(
                "/api/chat", model=model, messages=[{"role": "user", "content": "1"}], options=GREEDY
            )
            assert answer["message"]["content"].split() == ["42", "43", "44"]
        assert says(worker, "theirs") == ["42", "43", "44"]
        assert real.get("/api/tags")["models"][0].keys() <= worker.get("/api/tags")["models"][0].keys()


@NEEDS_OLLAMA
def test_what_is_made_here_is_what_a_real_ollama_makes(tmp_path: Path, weights: Path) -> None:
    """Manifest and configuration of the same order are the same, byte for byte but for paths."""
    found = binary()
    assert found is not None
    order: dict[str, Any] = {
        "template": FROM_41,
        "system": "s <b>",
        "parameters": {"temperature": 0.5, "stop": ["<x>", "y"], "num_ctx": 64},
        "messages": [{"role": "user", "content": "q"}],
        "license": ["a", "b"],
    }
    with (
        real_ollama(found, tmp_path) as real,
        embedded_worker(made(tmp_path / "own")) as worker,
    ):
        real.create("base", weights, **order)
        real.derive("derived", "base", system="t")
        created(worker, "base", weights, **order)
        worker.post("/api/create", model="derived", **{"from": "base"}, system="t")
        for model in ("base", "derived"):
            path = f"manifests/registry.ollama.ai/library/{model}/latest"
            theirs = (real.store / path).read_text().replace(str(real.store), "STORE")
            ours = (tmp_path / "own/store" / path).read_text().replace(str(tmp_path / "own/store"), "STORE")
            assert ours == theirs


@NEEDS_OLLAMA
def test_show_says_what_a_real_ollama_says(tmp_path: Path, weights: Path) -> None:
    """Of the same model, with all arrays and without."""
    found = binary()
    assert found is not None
    with (
        real_ollama(found, tmp_path) as real,
        embedded_worker(made(tmp_path / "none"), OLLAMA_MODELS=real.store) as worker,
    ):
        real.create(
            "full", weights, template=FROM_41, system="s", license="l", parameters={"stop": ["x", "y"]}
        )
        for question in ({}, {"verbose": True}, {"system": "other", "options": {"top_k": 3}}):
            _, theirs = real.post("/api/show", model="full", **question)
            ours = worker.post("/api/show", model="full", **question).json
            for told in (theirs, ours):
                told["modified_at"] = told["modified_at"][:23]
                told["modelfile"] = sorted(told["modelfile"].splitlines())  # its options come in no order
            assert ours == theirs
