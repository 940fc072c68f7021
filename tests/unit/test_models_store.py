"""What an Ollama store means, read from its files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from supervisor.models.directory import Directory
from supervisor.models.library import Library
from supervisor.models.store import Store
from tests.support.handmade_store import HandmadeStore
from tests.support.models import counting_model

CHATML = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}"


class Log:
    """What was told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    def __call__(self, event: str, *, file: str, reason: str) -> None:
        self.lines.append((event, file, reason))


@pytest.fixture
def log() -> Log:
    """A log."""
    return Log()


@pytest.fixture
def made(tmp_path: Path) -> HandmadeStore:
    """An empty store."""
    return HandmadeStore(tmp_path / "store")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The counting model's file."""
    return counting_model(tmp_path / "weights")


def test_a_model_is_listed_as_ollama_lists_it(made: HandmadeStore, weights: Path, log: Log) -> None:
    """Name, digest of the manifest, size of all blobs, details of the config."""
    manifest = made.add("count:small", weights, template=CHATML)
    (model,) = Store(made.path, log).scan().values()
    assert model.entry is not None
    assert model.name.short == "count:small"
    assert model.entry.digest == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert model.size_bytes == sum(path.stat().st_size for path in (made.path / "blobs").iterdir())
    assert (model.details["family"], model.details["quantization_level"]) == ("llama", "F16")
    assert model.entry.weights == "sha256:" + hashlib.sha256(weights.read_bytes()).hexdigest()


def test_a_store_that_does_not_exist_is_empty(tmp_path: Path, log: Log) -> None:
    """A machine without Ollama is none the worse for it."""
    assert Store(tmp_path / "none", log).scan() == {}
    assert log.lines == []


@pytest.mark.parametrize("layer", ["model", "template"])
def test_a_model_with_a_missing_blob_is_left_out_with_one_line(
    made: HandmadeStore, weights: Path, log: Log, layer: str
) -> None:
    """However often the store is read; it is there again when the blob is."""
    blob = made.blob(made.add("count:latest", weights, template=CHATML), layer)
    made.add("other:latest", weights, template="{{ .Prompt }}")
    kept = blob.read_bytes()
    blob.unlink()
    store = Store(made.path, log)
    alone = {"template": 1, "model": 0}[layer]
    assert [len(store.scan()) for _ in range(3)] == [alone] * 3
    told = [line for line in log.lines if "/count/" in line[1]]
    assert told == [("store_model_skipped", told[0][1], f"{blob.name} is missing")]
    blob.write_bytes(kept)
    assert len(store.scan()) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"layers": 3}',
        '{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../etc"}]}',
        '{"layers": []}',
        "[" * 100_000,
    ],
)
def test_a_manifest_that_makes_no_model_is_left_out_with_one_line(
    made: HandmadeStore, weights: Path, log: Log, text: str
) -> None:
    """Its neighbours are not touched by it."""
    made.add("count:latest", weights)
    made.add("broken:latest", weights).write_text(text)
    store = Store(made.path, log)
    assert [model.name.model for model in (*store.scan().values(), *store.scan().values())] == ["count"] * 2
    assert [line[1] for line in log.lines] == ["registry.ollama.ai/library/broken/latest"]


def test_a_model_is_read_again_when_its_manifest_changed(
    made: HandmadeStore, weights: Path, log: Log
) -> None:
    """As `ollama create` over an existing name does it."""
    manifest = made.add("count:latest", weights, system="first")
    library = Library(None, Store(made.path, log), log)
    first = library.find("registry.ollama.ai/library/count:latest")
    assert first is library.find("registry.ollama.ai/library/count:latest")
    made.add("count:latest", weights, system="second one")
    os.utime(manifest, ns=(1, 1))
    second = library.find("registry.ollama.ai/library/count:latest")
    assert second is not None
    assert second.entry is not None
    assert second.entry.modelfile.system == "second one"


def test_a_gguf_file_wins_over_a_model_of_the_store(made: HandmadeStore, weights: Path, log: Log) -> None:
    """The directory is Corral's own; the log says once which one it is."""
    made.add("count:latest", weights)
    library = Library(Directory(weights.parent, log), Store(made.path, log), log)
    assert [model.entry for model in (*library.scan().values(), *library.scan().values())] == [None, None]
    assert [(event, file) for event, file, _ in log.lines] == [("store_model_hidden", "count:latest")]


def test_capabilities_are_read_from_the_template(made: HandmadeStore, weights: Path, log: Log) -> None:
    """Tools, a gap to fill, and thoughts between marks; as Ollama tells them."""
    thoughts = "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ end }}"
    made.add("a", weights, template=CHATML)
    made.add("b", weights, template="{{ .Tools }}{{ .Suffix }}" + thoughts)
    found = {model.name.model: model.capabilities for model in Store(made.path, log).scan().values()}
    assert found == {"a": ("completion",), "b": ("completion", "tools", "insert", "thinking")}


def test_prompts_that_only_ollamas_own_code_can_make_use_the_files_template(
    made: HandmadeStore, weights: Path, log: Log
) -> None:
    """A renderer that is built into Ollama, and a template that is not understood: the log says so."""
    made.add("built-in", weights, {"renderer": "somebody"}, template=CHATML)
    made.add("strange", weights, template="{{ html .Messages }}")
    models = Store(made.path, log).scan().values()
    assert all(model.template is None for model in models)
    assert [event for event, _, _ in log.lines] == ["store_template_replaced"] * 2
    assert 'function "html" not defined' in log.lines[1][2]


def test_the_modelfile_is_told_with_all_its_layers(made: HandmadeStore, weights: Path, log: Log) -> None:
    """What a person could create the model from again."""
    made.add(
        "full",
        weights,
        template="{{ .Prompt }}\n",
        system="be nice",
        params={"stop": ["a", "b c "], "temperature": 0.5, "num_ctx": 64},
        license="free",
        messages=[{"role": "user", "content": "hi"}],
    )
    (model,) = Store(made.path, log).scan().values()
    assert model.entry is not None
    modelfile = model.entry.modelfile
    assert modelfile.text("/w", "full:latest").splitlines()[4:] == [
        "FROM /w",
        'TEMPLATE "{{ .Prompt }}',
        '"',
        "SYSTEM be nice",
        "PARAMETER stop a",
        'PARAMETER stop "b c "',
        "PARAMETER temperature 0.5",
        "PARAMETER num_ctx 64",
        "LICENSE free",
        "MESSAGE user hi",
    ]
    assert modelfile.parameter_lines.splitlines()[0] == f'{"stop":<30} "a"'
