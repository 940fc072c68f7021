"""Puts files where they belong and asks systemd about units. Decides nothing about what is in them."""

from __future__ import annotations

import grp
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import supervisor

_TIMEOUT_S: Final = 30.0
_BOOTED: Final = Path("/run/systemd/system")
"""What sd_booted(3) looks at."""


def write_file(path: Path, text: str) -> None:
    """Write the file with its directory; a reader sees the old or the new one, never a part.

    Raises:
        OSError: the file system will not have it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink()
        raise


def read_file(path: Path) -> str | None:
    """Return the text of the file; None where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def is_booted() -> bool:
    """Whether systemd runs this machine."""
    return _BOOTED.is_dir()


def run_tool(argv: Sequence[str]) -> str | None:
    """Run a tool of systemd; return what went wrong, or None."""
    program = shutil.which(argv[0])
    if program is None:
        return f"{argv[0]} is not installed"
    try:
        done = subprocess.run(
            [program, *argv[1:]], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip() or f"exit status {done.returncode}"


def is_active(unit: str) -> bool:
    """Whether systemd runs the unit now, or will at the next boot."""
    return is_booted() and (
        run_tool(("systemctl", "--quiet", "is-active", unit)) is None
        or run_tool(("systemctl", "--quiet", "is-enabled", unit)) is None
    )


def has_group(name: str) -> bool:
    """Whether this machine has a group of that name."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def own_program() -> str:
    """Return the `corral` command of the running environment."""
    beside = Path(sys.executable).with_name("corral")
    return str(beside) if beside.exists() else str(Path(sys.argv[0]).absolute())


def own_directories() -> tuple[str, ...]:
    """Return what the running program is made of: its environment, its interpreter, its sources."""
    sources = Path(supervisor.__file__).resolve().parents[1]
    interpreter = Path(sys.executable).resolve().parents[1]
    found = (Path(sys.prefix), Path(sys.base_prefix), interpreter, sources)
    return tuple(dict.fromkeys(str(path) for path in found))
