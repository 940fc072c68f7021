"""What an Ollama worker is told, and which Ollama will do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.workers.effective_slots import SERIAL_FAMILIES, effective_slots
from supervisor.core.spec import WorkerSpec
from supervisor.engines.ollama import OllamaEngine, parse_version, too_old
from supervisor.host.own_cores import stanzas_of
from tests.support.fake_engine import fake_spec

SPEC = replace(fake_spec("gpu0", gpus=("GPU-1",)), store="/srv/models", engine="ollama")
ENGINE = OllamaEngine(lambda: "/opt/ollama")


def environment(spec: WorkerSpec) -> dict[str, str]:
    """Return what the engine sets for this worker."""
    return dict(ENGINE.launch(spec, port=4711).env)


def test_every_limit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is left to a default that Ollama derives from what it sees of the machine."""
    monkeypatch.setenv("HOME", "/home/me")
    assert environment(SPEC) == {
        "HOME": "/home/me",
        "OLLAMA_HOST": "127.0.0.1:4711",
        "OLLAMA_MODELS": "/srv/models",
        "OLLAMA_NUM_PARALLEL": "4",
        "OLLAMA_MAX_LOADED_MODELS": "3",
        "OLLAMA_MAX_QUEUE": "512",
        "OLLAMA_CONTEXT_LENGTH": "4096",
        "OLLAMA_KEEP_ALIVE": "-1s",
        "OLLAMA_LOAD_TIMEOUT": "300s",
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_VULKAN": "0",
        "GIN_MODE": "release",
    }


def test_a_home_is_set_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ollama panics without one; it keeps its key there."""
    monkeypatch.delenv("HOME")
    assert environment(SPEC)["HOME"] == "/srv"


def test_only_the_worker_that_prunes_prunes() -> None:
    """The others must not delete what it is pulling."""
    assert environment(replace(SPEC, prunes=True))["OLLAMA_NOPRUNE"] == "0"


def test_load_timeout_is_a_duration_that_go_reads() -> None:
    """No exponent and no fraction, however long it is."""
    assert environment(replace(SPEC, load_timeout_s=2_000_000.5))["OLLAMA_LOAD_TIMEOUT"] == "2000001s"


@pytest.mark.parametrize(
    ("flash", "cache", "told"),
    [
        (None, None, (None, None)),
        (True, None, ("1", None)),
        (False, "f16", ("0", "f16")),
        (None, "f16", (None, "f16")),
        (None, "q8_0", ("1", "q8_0")),
    ],
)
def test_attention_is_left_to_ollama_unless_the_file_says(
    flash: bool | None,  # noqa: FBT001 -- a parameter of the test
    cache: str | None,
    told: tuple[str | None, str | None],
) -> None:
    """A cache that is quantised needs flash attention in so many words."""
    env = environment(replace(SPEC, flash_attention=flash, kv_cache_type=cache))
    assert (env.get("OLLAMA_FLASH_ATTENTION"), env.get("OLLAMA_KV_CACHE_TYPE")) == told


def test_a_worker_on_cores_is_shown_only_those() -> None:
    """A worker on a GPU runs the binary as it is."""
    assert ENGINE.launch(SPEC, port=1).argv == ("/opt/ollama", "serve")
    on_cores = ENGINE.launch(replace(SPEC, cpu_cores=(1,)), port=1).argv
    assert on_cores[-3].endswith("own_cores.py")
    assert on_cores[-2:] == ("/opt/ollama", "serve")


def test_the_cores_that_are_shown_keep_their_paragraphs() -> None:
    """Ollama reads more of them than the number."""
    cpuinfo = "".join(f"processor\t: {core}\ncore id\t\t: {core // 2}\n\n" for core in range(4))
    assert stanzas_of(cpuinfo, {1, 3}) == (
        "processor\t: 1\ncore id\t\t: 0\n\nprocessor\t: 3\ncore id\t\t: 1\n\n"
    )


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("ollama version is 0.24.0\n", (0, 24, 0)),
        (
            "Warning: could not connect to a running Ollama instance\nWarning: client version is 0.24.0",
            (0, 24, 0),
        ),
        ("ollama version is 0.6.0\nWarning: client version is 0.24.1-rc2\n", (0, 24, 1)),
        ("flag provided but not defined", None),
    ],
)
def test_the_version_is_the_binarys_own(said: str, version: tuple[int, int, int] | None) -> None:
    """Another server that runs may be older or newer."""
    assert parse_version(said) == version


def test_an_old_ollama_is_refused_with_the_reason() -> None:
    """It names the file, both versions and the remedy; a build from source is its builder's to judge."""
    refusal = too_old("/opt/ollama", "ollama version is 0.9.6") or ""
    assert refusal.startswith("/opt/ollama is version 0.9.6, and Corral needs 0.10.0 or later")
    assert "upgrade it" in refusal
    assert too_old("/opt/ollama", "Warning: client version is 0.0.0") is None
    assert too_old("/opt/ollama", "Warning: client version is 0.10.0") is None


def test_a_binary_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    """Each with what to do."""
    assert "install Ollama" in (OllamaEngine(lambda: None).missing() or "")
    broken = tmp_path / "ollama"
    broken.write_text("no program")
    broken.chmod(0o755)
    assert f"{broken} cannot be run" in (OllamaEngine(lambda: str(broken)).missing() or "")


@pytest.mark.parametrize("family", sorted(SERIAL_FAMILIES))
def test_families_that_ollama_runs_serially_have_one_slot(family: str) -> None:
    """Whatever OLLAMA_NUM_PARALLEL says."""
    assert effective_slots(4, family=family, file_format="gguf", completes=True) == 1


def test_other_models_have_the_slots_that_were_asked_for() -> None:
    """But a model that only embeds, and one of another runner, has one."""
    assert effective_slots(4, family="llama", file_format="gguf", completes=True) == 4
    assert effective_slots(4, family="bert", file_format="gguf", completes=False) == 1
    assert effective_slots(4, family="llama", file_format="safetensors", completes=True) == 1
