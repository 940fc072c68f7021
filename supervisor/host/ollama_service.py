"""Reads how an installed Ollama service is set up: by asking systemd, else from the unit's files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from supervisor.core.service_environment import parse_environment

_UNIT: Final = "etc/systemd/system/ollama.service"
_SHOW: Final = ("show", "ollama.service", "-p", "Environment")
_TIMEOUT_S: Final = 5.0


def ask_systemd() -> str | None:
    """Return what systemd says of the unit's environment; None where there is no systemd to ask."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return None
    try:
        done = subprocess.run(
            [systemctl, *_SHOW], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def read_service_environment(
    ask: Callable[[], str | None] = ask_systemd, root: Path = Path("/")
) -> dict[str, str]:
    """Return the variables of ollama.service; none where it is not installed."""
    said = ask()
    asked = {} if said is None else parse_environment([said])
    return asked or parse_environment(_unit_texts(root / _UNIT))


def _unit_texts(unit: Path) -> list[str]:
    files = [unit, *sorted(unit.with_name(f"{unit.name}.d").glob("*.conf"))]
    return [text for file in files if (text := _read(file)) is not None]


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
