"""The lines in which a store tells how a pull or a create goes on, to the letter as Ollama's. Pure.

Source: Ollama 0.24 `api/types.go` (ProgressResponse), `server/images.go`, `server/download.go`.
"""

from __future__ import annotations

from typing import Any, Final

from supervisor.models.manifest import Layer

Line = dict[str, Any]

PULLING_MANIFEST: Final[Line] = {"status": "pulling manifest"}
VERIFYING: Final[Line] = {"status": "verifying sha256 digest"}
WRITING_MANIFEST: Final[Line] = {"status": "writing manifest"}
REMOVING_UNUSED: Final[Line] = {"status": "removing unused layers"}
PARSING_GGUF: Final[Line] = {"status": "parsing GGUF"}
SUCCESS: Final[Line] = {"status": "success"}

_SHORT_HEX: Final = slice(7, 19)
"""The first twelve digits of a `sha256:…`."""


def pulling(layer: Layer, completed_bytes: int) -> Line:
    """Return how far a blob has come; numbers that are zero are left out, as Go does."""
    numbers = {"total": layer.size_bytes, "completed": completed_bytes}
    line: Line = {"status": f"pulling {layer.digest[_SHORT_HEX]}", "digest": layer.digest}
    return line | {name: number for name, number in numbers.items() if number}


def layered(digest: str, *, existed: bool) -> Line:
    """Return that a layer of a new model was there already or had to be written."""
    return {"status": f"{'using existing' if existed else 'creating new'} layer {digest}"}
