"""Model names as Ollama reads them: `[host/][namespace/]model[:tag]`, case-insensitive.

Source: Ollama's types/model/name.go; `registry.ollama.ai/library/MODEL:latest` are the defaults.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

DEFAULT_HOST: Final = "registry.ollama.ai"
DEFAULT_NAMESPACE: Final = "library"
DEFAULT_TAG: Final = "latest"

_PARTS: Final = 3
"""Host, namespace, model; the tag stands behind a colon."""
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}\Z")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}\Z")
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z")


class InvalidModelNameError(ValueError):
    """A text that can be no model's name."""


@dataclass(frozen=True, slots=True)
class ModelName:
    """A complete model name; equality is of the parts as written, identity is `key`."""

    host: str
    namespace: str
    model: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Fill in Ollama's defaults for the parts that are missing.

        Raises:
            InvalidModelNameError: empty, too many parts, or a part with characters Ollama refuses.
        """
        stripped = text.strip()
        path, tag = _split_tag(stripped)
        _, scheme, complete = path.partition("://")  # only a name with all its parts can have a scheme
        parts = (complete if scheme else path).split("/")
        if len(parts) > _PARTS or (scheme and len(parts) < _PARTS):
            raise InvalidModelNameError(f"invalid model name: {text!r}")
        host, namespace, model = [DEFAULT_HOST, DEFAULT_NAMESPACE][: _PARTS - len(parts)] + parts
        valid = _HOST.match(host) and _NAMESPACE.match(namespace) and _PART.match(model) and _PART.match(tag)
        if not valid:
            raise InvalidModelNameError(f"invalid model name: {text!r}")
        return cls(host, namespace, model, tag)

    @property
    def key(self) -> str:
        """The complete name in lower case: two names with one key are one model."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}".lower()

    @property
    def short(self) -> str:
        """The name as Ollama prints it: without the default host and namespace, with the tag."""
        name = f"{self.model}:{self.tag}"
        if self.namespace != DEFAULT_NAMESPACE or self.host != DEFAULT_HOST:
            name = f"{self.namespace}/{name}"
        return name if self.host == DEFAULT_HOST else f"{self.host}/{name}"


def _split_tag(text: str) -> tuple[str, str]:
    """Split at the last colon after the last slash; a host's port has a slash behind it."""
    head, slash, last = text.rpartition("/")
    model, colon, tag = last.partition(":")
    return head + slash + model, tag if colon else DEFAULT_TAG
