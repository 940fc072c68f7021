"""An Ollama store written by hand, in Ollama's layout, so that tests need no Ollama."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MEDIA_TYPE = "application/vnd.ollama.image."
_CONFIG = {
    "model_format": "gguf",
    "model_family": "llama",
    "model_families": ["llama"],
    "model_type": "1.2M",
    "file_type": "F16",
    "architecture": "amd64",
    "os": "linux",
    "rootfs": {"type": "layers", "diff_ids": []},
}


@dataclass(frozen=True, slots=True)
class HandmadeStore:
    """A store in a directory."""

    path: Path

    def add(self, name: str, weights: Path, config: dict[str, Any] | None = None, **layers: Any) -> Path:
        """Write a model `MODEL:TAG` and return its manifest.

        Args:
            name: With its tag; host and namespace are the defaults.
            weights: A GGUF file.
            config: Fields of the config blob that differ.
            layers: Contents by kind; what is no text is written as JSON.
        """
        blobs = {"model": weights.read_bytes()} | {
            kind: content.encode() if isinstance(content, str) else json.dumps(content).encode()
            for kind, content in layers.items()
        }
        manifest = {
            "schemaVersion": 2,
            "config": self._blob("config", json.dumps(_CONFIG | (config or {})).encode()),
            "layers": [self._blob(_MEDIA_TYPE + kind, data) for kind, data in blobs.items()],
        }
        model, _, tag = name.partition(":")
        path = self.path / "manifests" / "registry.ollama.ai" / "library" / model / (tag or "latest")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(manifest))
        return path

    def blob(self, manifest: Path, kind: str) -> Path:
        """Return the file of a model's layer."""
        layers = json.loads(manifest.read_text())["layers"]
        digest: str = next(layer["digest"] for layer in layers if layer["mediaType"] == _MEDIA_TYPE + kind)
        return self.path / "blobs" / digest.replace(":", "-")

    def state(self) -> dict[str, tuple[int, int]]:
        """Return size and time of change of everything in it."""
        found = {str(path): path.stat() for path in (self.path, *self.path.rglob("*"))}
        return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}

    def _blob(self, media_type: str, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        path = self.path / "blobs" / f"sha256-{digest}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}
