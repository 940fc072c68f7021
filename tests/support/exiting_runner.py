"""An Ollama whose runners exit as they start, while a test wants it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_suffix(".c")


def exiting_runners(directory: Path, flag: Path) -> dict[str, str]:
    """Return the environment of an Ollama of which they exit while the file `flag` is there.

    Skips the test where there is no C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc) to build the runner's end with")
    library = directory / "exiting_runner.so"
    warnings = ("-Wall", "-Wextra", "-Werror")
    subprocess.run([compiler, *warnings, "-shared", "-fPIC", "-o", str(library), str(_SOURCE)], check=True)
    return {"LD_PRELOAD": str(library), "EXITING_RUNNER": str(flag)}
