"""What a new model is made of: layers in Ollama's order, bytes with Ollama's digests."""

from __future__ import annotations

import json
from typing import Any

from supervisor.models.creation import Base, Text, Wish, go_json, layer_kind, plan_creation
from supervisor.models.facts import ModelFacts
from supervisor.models.manifest import Layer, parse_manifest

FACTS = ModelFacts("llama", 3_095_296, "F16", 4096, 4251, "", embeds=False, info={})
WEIGHTS = Layer("model", "sha256:" + "1" * 64, 7, "/store/blobs/sha256-" + "1" * 64)
OLD = {
    kind: Text(kind, data.encode()).layer
    for kind, data in (
        ("template", "{{ .Prompt }}"),
        ("system", "old"),
        ("license", "free"),
        ("params", "{}"),
    )
}


def created(base: Base, **wish: Any) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    """Return the kinds of the layers, the new layers' contents and the configuration."""
    creation = plan_creation(base, Wish(**wish))
    texts = {part.kind: part.data.decode() for part in creation.parts if isinstance(part, Text)}
    return [layer.kind for layer in creation.layers], texts, json.loads(creation.config.data)


def weights(**more: Any) -> Base:
    """Return a base of one GGUF file."""
    return Base(**{"layers": (WEIGHTS,), "facts": (FACTS,), **more})


def test_layers_come_in_ollamas_order() -> None:
    """Weights, template, system, licenses, parameters, messages."""
    kinds, texts, _ = created(
        weights(),
        template="T",
        system="S",
        licenses=("L1", "L2"),
        parameters={"stop": ["<|end|>"], "num_ctx": 8},
        messages=[{"content": "hi", "role": "user", "images": []}],
    )
    assert kinds == ["model", "template", "system", "license", "license", "params", "messages"]
    assert texts["params"] == '{"num_ctx":8,"stop":["\\u003c|end|\\u003e"]}\n'
    assert texts["messages"] == '[{"role":"user","content":"hi"}]\n'


def test_the_digests_are_those_that_a_real_ollama_makes() -> None:
    """Of the same parameters, as seen from 0.24."""
    creation = plan_creation(
        weights(), Wish(parameters={"temperature": 0, "stop": ["x", "y"]}, template="{{ .Prompt }} x")
    )
    assert [layer.digest[:19] for layer in creation.layers[1:]] == [
        "sha256:9307f8937258",
        "sha256:e4f12e97017c",
    ]


def test_what_is_not_asked_for_stays_as_the_base_has_it() -> None:
    """And what is asked for takes its place; licenses are added, parameters go into each other."""
    base = weights(layers=(WEIGHTS, *OLD.values()), parameters={"stop": ["a"], "top_k": 1})
    kinds, texts, _ = created(base, system="new", parameters={"top_k": 2})
    assert kinds == ["model", "template", "license", "system", "params"]
    assert json.loads(texts["params"]) == {"stop": ["a"], "top_k": 2}


def test_the_configuration_tells_what_the_weights_are() -> None:
    """The fields that Ollama lists a model by, and the digests of all layers."""
    _, _, config = created(weights())
    assert config == {
        "model_format": "gguf",
        "model_family": "llama",
        "model_families": ["llama"],
        "model_type": "3.10M",
        "file_type": "F16",
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [WEIGHTS.digest]},
    }


def test_the_configuration_of_a_base_is_inherited() -> None:
    """Renderer and parser go with the weights; the request has the last word."""
    base = weights(config={"renderer": "r", "parser": "p", "requires": "0.9", "model_format": "gguf"})
    _, _, config = created(base, parser="own", info={"parameter_size": "3B", "capabilities": ["vision"]})
    wanted = {
        "renderer": "r",
        "parser": "own",
        "requires": "0.9",
        "model_type": "3B",
        "capabilities": ["vision"],
    }
    assert {key: config.get(key) for key in wanted} == wanted


def test_an_architecture_with_a_renderer_of_ollamas_own_gets_it() -> None:
    """So that a real Ollama over the store makes its prompts right."""
    gemma = ModelFacts("gemma4", 1, "F16", 1, 1, "", embeds=False, info={})
    _, texts, config = created(Base(layers=(WEIGHTS,), facts=(gemma,)))
    assert (config["renderer"], config["parser"]) == ("gemma4", "gemma4")
    assert json.loads(texts["params"]) == {"stop": ["<turn|>"]}


def test_a_gguf_file_says_what_it_is_in_a_model() -> None:
    """Weights, what makes tokens of images, or an adapter."""
    kinds: dict[str, dict[str, Any]] = {
        "adapter": {"general.type": "adapter"},
        "projector": {"clip.vision.block_count": 12},
        "model": {"clip.block_count": 3, "clip.vision.block_count": 12},
    }
    for kind, info in kinds.items():
        assert layer_kind(ModelFacts("clip", 1, "F16", 1, 1, "", embeds=False, info=info)) == kind


def test_a_manifest_reads_as_it_was_written() -> None:
    """With where a layer came from."""
    creation = plan_creation(weights(), Wish(system="s"))
    manifest = parse_manifest(creation.manifest)
    assert manifest.layers == creation.layers
    assert manifest.config is not None
    assert manifest.config.digest == creation.config.layer.digest
    assert creation.manifest.endswith(b"]}\n")


def test_json_is_written_as_go_writes_it() -> None:
    """What could mean something in HTML is escaped, other letters are not."""
    assert go_json({"a": "<ä&\u2028>"}) == '{"a":"\\u003cä\\u0026\\u2028\\u003e"}\n'.encode()
