"""One model that can be served: its weights, and what is known of it beside them.

A model is a GGUF file alone, or the blobs of a store; those who serve it need not know which. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from supervisor.contract.names import ModelName
from supervisor.models.facts import ModelFacts
from supervisor.models.modelfile import Modelfile
from supervisor.models.prompt_tags import thinking_marks
from supervisor.models.prompt_template import PromptTemplate


@dataclass(frozen=True, slots=True)
class FileId:
    """What tells one state of a file from another without reading it."""

    path: str
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreEntry:
    """What a store tells of a model."""

    digest: str
    """SHA-256 of the manifest, in hex: a model's identity in Ollama."""
    weights: str
    """`sha256:…` of the weights' blob."""
    size_bytes: int
    """Of all blobs."""
    modified_ns: int
    """Of the manifest."""
    modelfile: Modelfile
    template: PromptTemplate | None
    """None where the template of the GGUF file, which llama.cpp applies, is used instead."""
    problem: str = ""
    """Why no prompt can be made of messages; empty when one can."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One model."""

    name: ModelName
    id: FileId
    """The file with the weights."""
    facts: ModelFacts
    entry: StoreEntry | None = None
    """None for a GGUF file of its own."""

    @property
    def size_bytes(self) -> int:
        """What lists say."""
        return self.entry.size_bytes if self.entry is not None else self.id.size_bytes

    @property
    def modified_ns(self) -> int:
        """When it changed last, nanoseconds since the epoch."""
        return self.entry.modified_ns if self.entry is not None else self.id.mtime_ns

    @property
    def details(self) -> dict[str, object]:
        """The `details` of tags, ps and show."""
        return self.entry.modelfile.details if self.entry is not None else self.facts.details

    @property
    def template(self) -> PromptTemplate | None:
        """The template of its store; None where that of the GGUF file is used."""
        return self.entry.template if self.entry is not None else None

    @property
    def parameters(self) -> Mapping[str, object]:
        """Options that hold unless a request gives others."""
        return self.entry.modelfile.parameters if self.entry is not None else {}

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What it can do, in Ollama's words."""
        template = self.template
        if template is None:
            return self.facts.capabilities
        first = "embedding" if self.facts.embeds else "completion"
        asked = (
            ("tools", "tools" in template.names),
            ("insert", "suffix" in template.names),
            ("thinking", thinking_marks(template.tree) != ("", "")),
        )
        return (first, *(name for name, can in asked if can))
