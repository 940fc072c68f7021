"""Where client programs run: the tests' own Python, or an environment that is installed for them and kept.

Kept environments lie in `.cache/clients` of the repository, under names that hold a hash of what is in them.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from tests.clients.catalogue import COMMAND, ENVIRONMENTS, HERE, NPM
from tests.support.ollama_store import BINARY, VARIABLE
from tests.support.supervisor import ROOT

_CACHE: Final = ROOT / ".cache" / "clients"
_PROGRAMS: Final = ROOT / "tests" / "clients" / "programs"
_PATIENCE_S: Final = 900


class NotInstalled(Exception):  # noqa: N818 -- a fact about the machine that tests skip with
    """An environment cannot be installed here; the text is the installer's reason."""


def command(environment: str, program: str) -> list[str]:
    """Return what runs a program of an environment.

    Raises:
        NotInstalled: its packages cannot be installed here.
    """
    if environment == NPM:
        for file in _PROGRAMS.glob("*.mjs"):  # a package is looked for beside the file that imports it
            shutil.copy(file, _node())
        return ["node", str(_node() / f"{program}.mjs")]
    python = sys.executable if environment in (HERE, COMMAND) else _python(environment)
    more = [_ollama()] if environment == COMMAND else []
    return [python, "-m", f"tests.clients.programs.{program}", *more]


def _ollama() -> str:
    binary = BINARY or shutil.which("ollama")
    if not binary:
        raise NotInstalled(f"no ollama in PATH, and {VARIABLE} names none")
    return binary


@cache
def _python(environment: str) -> str:
    directory = _place(environment, sys.version)
    python = str(directory / "bin" / "python")
    if not _is_whole(directory):
        _install([sys.executable, "-m", "venv", "--clear", str(directory)])
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"]
        _install([*pip, *ENVIRONMENTS[environment]])
        _mark_whole(directory)
    return python


@cache
def _node() -> Path:
    directory = _place(NPM)
    if not _is_whole(directory):
        directory.mkdir(parents=True, exist_ok=True)
        npm = ["npm", "install", "--loglevel", "error", "--no-audit", "--fetch-retries", "1"]
        _install([*npm, "--prefix", str(directory), *ENVIRONMENTS[NPM]])
        _mark_whole(directory)
    return directory


def _install(argv: Sequence[str]) -> None:
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=_PATIENCE_S)
    except FileNotFoundError as error:
        raise NotInstalled(f"{argv[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"{argv[0]}: not within {_PATIENCE_S} s") from error
    except subprocess.CalledProcessError as error:
        raise NotInstalled(_gist(error.stderr or error.stdout)) from error


def _gist(complaint: str) -> str:
    """Return the first and last words of an installer, each cut to a line that can be read."""
    lines = complaint.strip().splitlines() or ["no reason was given"]
    return " … ".join(dict.fromkeys(line[:200] for line in (*lines[:2], lines[-1])))


def _place(environment: str, *more: str) -> Path:
    contents = repr((ENVIRONMENTS[environment], more)).encode()
    return _CACHE / f"{environment}-{hashlib.sha256(contents).hexdigest()[:12]}"


def _is_whole(directory: Path) -> bool:
    return (directory / "whole").exists()


def _mark_whole(directory: Path) -> None:
    (directory / "whole").touch()
