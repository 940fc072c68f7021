"""Which engines exist. One line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from supervisor.engines.embedded.engine import EmbeddedEngine
from supervisor.engines.engine import Engine

ENGINES: Final[Mapping[str, Engine]] = {engine.name: engine for engine in (EmbeddedEngine(),)}
"""Engines by the name that the configuration uses."""
