"""A wall clock that a test sets while programs run; their monotonic clocks go on, as in life."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_suffix(".c")


@dataclass(frozen=True, slots=True)
class ShiftedClock:
    """One clock, for all processes that have `environment`."""

    library: Path
    file: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to go by it, and all that it starts."""
        return {"LD_PRELOAD": str(self.library), "SHIFTED_CLOCK": str(self.file)}

    def shift(self, seconds: int) -> None:
        """Set it to so many seconds after (or before) the true time."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self.file)


def shifted_clock(directory: Path) -> ShiftedClock:
    """Build one that is right; skips the test where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc) to build the clock with")
    library = directory / "shifted_clock.so"
    warnings = ("-Wall", "-Wextra", "-Werror")
    argv = [compiler, *warnings, "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
    subprocess.run(argv, check=True)
    clock = ShiftedClock(library, directory / "shift")
    clock.shift(0)
    return clock
