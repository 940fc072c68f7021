"""A manifest of an Ollama store: which blobs a model is made of. Pure.

Decides what a sound manifest is. A digest becomes part of a path, so nothing but a SHA-256 is one.

Source: Ollama 0.24 `manifest/manifest.go`, `server/images.go` and `types/model/config.go`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-fA-F]{64})\Z")
MEDIA_TYPE: Final = "application/vnd.ollama.image."

WEIGHTS: Final = "model"
ADAPTER: Final = "adapter"
PROJECTOR: Final = "projector"
TEMPLATES: Final = ("template", "prompt")
"""The second is the older name."""


class InvalidManifestError(ValueError):
    """A manifest, or a blob that it names, which makes no model; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a model."""

    kind: str
    """The end of its media type: `model`, `template`, `params` …"""
    digest: str
    """`sha256:…`"""
    size_bytes: int
    origin: str = ""
    """The model that it was taken from, where it was."""

    @property
    def file_name(self) -> str:
        """Its name in the directory of blobs."""
        return self.digest.replace(":", "-")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a model consists of."""

    config: Layer | None
    layers: tuple[Layer, ...]

    @property
    def size_bytes(self) -> int:
        """All blobs together, as Ollama lists a model's size."""
        return sum(layer.size_bytes for layer in (*self.layers, *((self.config,) if self.config else ())))

    @property
    def blobs(self) -> tuple[Layer, ...]:
        """All blobs, each once, in the order in which Ollama pulls them."""
        layers = (*self.layers, *((self.config,) if self.config else ()))
        return tuple({layer.digest: layer for layer in layers}.values())

    @property
    def digests(self) -> list[str]:
        """What all blobs are called."""
        return [layer.digest for layer in self.blobs]

    @property
    def weights(self) -> Layer:
        """The layer with the weights; of several, the last one.

        Raises:
            InvalidManifestError: there is none, as with models that run elsewhere.
        """
        found = self.of_kind(WEIGHTS)
        if not found:
            raise InvalidManifestError("it has no weights in GGUF form (a cloud or safetensors model)")
        return found[-1]

    def of_kind(self, *kinds: str) -> tuple[Layer, ...]:
        """Return the layers of these kinds."""
        return tuple(layer for layer in self.layers if layer.kind in kinds)


def parse_manifest(data: bytes) -> Manifest:
    """Return the manifest.

    Raises:
        InvalidManifestError: no JSON, or not of this form.
    """
    value = parse_object(data)
    config = value.get("config") or {}
    layers = value.get("layers") or []
    if not isinstance(config, dict) or not isinstance(layers, list):
        raise InvalidManifestError("config must be an object and layers a list")
    return Manifest(_layer(config) if config.get("digest") else None, tuple(map(_layer, layers)))


def parse_object(data: bytes) -> Mapping[str, Any]:
    """Return the JSON object that `data` is.

    Raises:
        InvalidManifestError: it is none.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidManifestError(f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidManifestError("no JSON object")
    return value


def digest_of(text: str) -> str | None:
    """Return a digest as stores write it, `sha256:…` in small letters; None when it is none."""
    found = _DIGEST.match(text)
    return f"sha256:{found[1].lower()}" if found else None


def media_type(layer: Layer) -> str:
    """Return what kind of thing a layer is, in full."""
    return layer.kind if "/" in layer.kind else MEDIA_TYPE + layer.kind


def _layer(value: object) -> Layer:
    fields = value if isinstance(value, dict) else {}
    digest, size = digest_of(str(fields.get("digest"))), fields.get("size", 0)
    if digest is None or not isinstance(size, int) or size < 0:
        raise InvalidManifestError(f"a layer has no sound digest and size: {str(value)[:200]}")
    kind = str(fields.get("mediaType", "")).removeprefix(MEDIA_TYPE)
    return Layer(kind, digest, size, str(fields.get("from") or ""))
