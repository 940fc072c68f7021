"""Which engines exist. One line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from supervisor.engines.embedded.engine import EmbeddedEngine
from supervisor.engines.engine import Engine
from supervisor.engines.ollama import OllamaEngine

ENGINES: Final[Mapping[str, Engine]] = {engine.name: engine for engine in (EmbeddedEngine(), OllamaEngine())}
"""Engines by the name that the configuration uses."""
