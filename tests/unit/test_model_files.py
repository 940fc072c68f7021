from __future__ import annotations

from pathlib import Path

from supervisor.core.paths import Paths
from supervisor.host.model_files import find_models
from tests.support.handmade_store import HandmadeStore
from tests.support.models import counting_model, embedding_model


def test_each_engine_finds_what_its_workers_will_find(tmp_path: Path) -> None:
    """Ollama its store, the embedded engine its own directory as well."""
    count = counting_model(tmp_path / "gguf", words=100)
    HandmadeStore(tmp_path / "store").add("embed", embedding_model(tmp_path))
    paths = Paths(
        runtime_dir="/run", store=str(tmp_path / "store"), gguf_dir=str(tmp_path / "gguf"), state_dir=""
    )
    key = "registry.ollama.ai/library/{}:latest"
    assert list(find_models("ollama", paths)) == [key.format("embed")]
    found = find_models("embedded", paths)
    assert set(found) == {key.format("count"), key.format("embed")}
    assert (found[key.format("embed")].embeds, found[key.format("count")].embeds) == (True, False)
    assert found[key.format("count")].size_bytes == count.stat().st_size
    assert found[key.format("count")].info["general.architecture"] == "llama"


def test_a_machine_without_models_has_none(tmp_path: Path) -> None:
    """Directories that are not there are empty."""
    paths = Paths(runtime_dir="/run", store=str(tmp_path / "a"), gguf_dir=str(tmp_path / "b"), state_dir="")
    assert find_models("embedded", paths) == {}
