"""Which layers a new model has, from what it is made of and what is asked for. Pure.

The bytes are Ollama's to the letter (keys in order, escapes, the newline at the end), so that equal things
have equal digests whoever wrote them.

Source: Ollama 0.24 `server/create.go`, `types/model/config.go`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from supervisor.contract.names import ModelName
from supervisor.models.facts import ModelFacts, human_number
from supervisor.models.manifest import Layer, media_type
from supervisor.models.registry import MANIFEST_TYPE

_CONFIG_TYPE: Final = "application/vnd.docker.container.image.v1+json"
_BUILT_IN: Final[Mapping[str, tuple[str, str]]] = {
    "gemma4": ("gemma4", "gemma4"),
    "laguna": ("laguna", "laguna"),
    "nemotron_h": ("nemotron-3-nano", "nemotron-3-nano"),
    "nemotron_h_moe": ("nemotron-3-nano", "nemotron-3-nano"),
    "nemotron_h_omni": ("nemotron-3-nano", "nemotron-3-nano"),
}
"""Renderer and parser that Ollama has for an architecture, so that an Ollama over the store uses them."""
_STOPS: Final[Mapping[str, list[str]]] = {"gemma4": ["<turn|>"]}
_INFO: Final[Mapping[str, str]] = {
    "model_family": "model_family",
    "base_name": "base_name",
    "quantization_level": "file_type",
    "parameter_size": "model_type",
    "context_length": "context_length",
    "embedding_length": "embedding_length",
}
"""Fields of `info` in a request, and what they are called in the configuration."""
_INHERITED: Final = ("renderer", "parser", "requires", "capabilities")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for beside the weights; what is empty stays as the base has it."""

    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: Sequence[Mapping[str, Any]] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a client asks for."""

    name: ModelName
    wish: Wish
    source: ModelName | None
    """The model it is made of; else it is made of `files`."""
    files: Mapping[str, str]
    """Digests by the names that the files had at the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a new model is made of."""

    layers: tuple[Layer, ...]
    facts: tuple[ModelFacts, ...]
    """Of the layers that are GGUF files, in their order."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Text:
    """A layer that is written anew."""

    kind: str
    data: bytes

    @property
    def layer(self) -> Layer:
        """It as others see it."""
        return Layer(self.kind, f"sha256:{hashlib.sha256(self.data).hexdigest()}", len(self.data))


@dataclass(frozen=True, slots=True)
class Creation:
    """A model to be written: its layers in order, those that are new with their bytes."""

    parts: tuple[Layer | Text, ...]
    config: Text

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All of them but the configuration."""
        return tuple(part.layer if isinstance(part, Text) else part for part in self.parts)

    @property
    def manifest(self) -> bytes:
        """The manifest's file."""
        value = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _told(self.config.layer),
            "layers": [_told(layer) for layer in self.layers],
        }
        return go_json(value)


def plan_creation(base: Base, wish: Wish) -> Creation:
    """Return what is to be written."""
    parts: list[Layer | Text] = list(base.layers)
    if wish.template:
        parts = [*_without(parts, "template"), Text("template", wish.template.encode())]
    if wish.system:
        parts = [*_without(parts, "system"), Text("system", wish.system.encode())]
    parts += [Text("license", text.encode()) for text in wish.licenses]
    config = _config(base, wish)
    parameters = {**base.parameters, **_stops_of(base, wish), **wish.parameters}
    if parameters:
        data = go_json({name: parameters[name] for name in sorted(parameters)})
        parts = [*_without(parts, "params"), Text("params", data)]
    if wish.messages:
        data = go_json([_message(message) for message in wish.messages])
        parts = [*_without(parts, "messages"), Text("messages", data)]
    digests = [part.layer.digest if isinstance(part, Text) else part.digest for part in parts]
    config["rootfs"] = {"type": "layers", "diff_ids": digests}
    return Creation(tuple(parts), Text(_CONFIG_TYPE, go_json(config)))


def layer_kind(facts: ModelFacts) -> str:
    """Return what a GGUF file is in a model: `model`, `projector` or `adapter`."""
    named = facts.info.get("general.type")
    blocks, seen = (facts.info.get(f"{facts.family}.{key}") for key in ("block_count", "vision.block_count"))
    if named == "adapter":
        return "adapter"
    return "projector" if named in ("projector", "mmproj") or (seen and not blocks) else "model"


def go_json(value: object) -> bytes:
    """Return JSON as Go's encoder writes it into files."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode("utf-8", "replace") + b"\n"


def _config(base: Base, wish: Wish) -> dict[str, Any]:
    """Return the configuration; fields that are empty are left out where Ollama leaves them out."""
    told = {_INFO[key]: value for key, value in wish.info.items() if key in _INFO and value}
    first = base.facts[0] if base.facts else None
    families = [told["model_family"]] if "model_family" in told else []
    config: dict[str, Any] = {
        "model_format": base.config.get("model_format") or ("gguf" if first else ""),
        "model_family": first.family if first else "",
        "model_families": [*families, *(facts.family for facts in base.facts)],
        "model_type": human_number(first.parameter_count) if first else "",
        "file_type": first.quantization if first else "",
    }
    optional = {
        key: getattr(wish, key, "") or base.config.get(key) or _built_in(base, key) for key in _INHERITED
    }
    if isinstance(capabilities := wish.info.get("capabilities"), list):
        optional["capabilities"] = [*(optional["capabilities"] or ()), *map(str, capabilities)]
    config |= {key: value for key, value in optional.items() if value}
    return config | told | {"architecture": "amd64", "os": "linux"}


def _built_in(base: Base, key: str) -> str:
    families = (facts.family for facts in base.facts)
    renderer, parser = next((_BUILT_IN[family] for family in families if family in _BUILT_IN), ("", ""))
    return {"renderer": renderer, "parser": parser}.get(key, "")


def _stops_of(base: Base, wish: Wish) -> dict[str, Any]:
    """Return the stop texts of an architecture, which Ollama sets along with its own renderer."""
    known = bool(base.config.get("renderer") or wish.renderer)
    stops = next((_STOPS[facts.family] for facts in base.facts if facts.family in _STOPS), None)
    return {} if known or stops is None else {"stop": stops}


def _without(parts: Sequence[Layer | Text], kind: str) -> list[Layer | Text]:
    return [part for part in parts if part.kind != kind]


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    first = {"role": message.get("role", ""), "content": message.get("content", "")}
    return first | {key: value for key, value in message.items() if value and key not in first}


def _told(layer: Layer) -> dict[str, Any]:
    told = {"mediaType": media_type(layer), "digest": layer.digest, "size": layer.size_bytes}
    return told | ({"from": layer.origin} if layer.origin else {})
