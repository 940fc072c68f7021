"""Builds the stand-in for NVIDIA's library, so that the real pynvml finds GPUs on any machine.

The library is looked up by the dynamic loader, so it stands in only in a process that is started with
LD_LIBRARY_PATH; see `environment`.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")
SONAME = "libnvidia-ml.so.1"


class NoCompilerError(Exception):
    """The stand-in is C and there is nothing to compile it with."""


def build_fake_nvml(directory: Path) -> Path:
    """Compile the library into a directory and return the library's path.

    Raises:
        NoCompilerError: there is no `cc`.
        CalledProcessError: the compiler refuses the source.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise NoCompilerError(
            "the tests need a C compiler for the stand-in of NVML: install gcc (it brings `cc`)"
        )
    library = directory / SONAME
    warnings = ("-Wall", "-Wextra", "-Werror")
    subprocess.run([compiler, *warnings, "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True)
    return library


def environment(library: Path, *, gpus: int, **settings: str | int) -> dict[str, str]:
    """Return the variables with which a child process sees `gpus` GPUs.

    `settings` are those of fake_nvml.c in lower case: `lost=2`, `memory_mib=8192`, `name="NVIDIA A100"`.
    """
    chosen = {f"FAKE_NVML_{name.upper()}": str(value) for name, value in settings.items()}
    return {"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML_GPUS": str(gpus), **chosen}


def uuid_of(index: int) -> str:
    """Return the UUID of one of the stand-in's GPUs."""
    return f"GPU-fa4e0000-0000-0000-0000-{index:012d}"
