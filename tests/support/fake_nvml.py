"""Builds the stand-in for NVIDIA's library, so that the real pynvml finds GPUs on any machine.

The library is looked up by the dynamic loader, so it stands in only in a process that is started with
LD_LIBRARY_PATH; see `environment`.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class LiveGpus:
    """What changes of the stand-in's GPUs while processes look at them; see fake_nvml.c for the names."""

    file: Path
    state: dict[str, int] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """Return what a process needs in its environment to see the changes."""
        self.set()
        return {"FAKE_NVML_STATE": str(self.file)}

    def set(self, **changes: int) -> None:
        """Change GPU facts (`lost=1`) or those of one GPU (`ecc_1=7`), at once and together."""
        self.state.update({name.replace("_", "."): value for name, value in changes.items()})
        self._write()

    def unset(self, *names: str) -> None:
        """Let these be as they were."""
        for name in names:
            self.state.pop(name.replace("_", "."), None)
        self._write()

    def xid(self, gpu: int, number: int) -> None:
        """Raise an Xid error."""
        others = [name for name in self.state if name.startswith("xid.")]
        for name in others:
            del self.state[name]
        self.set(**{f"xid_{gpu}": number, "xids": self.state.get("xids", 0) + 1})

    def _write(self) -> None:
        fresh = self.file.with_suffix(".fresh")
        fresh.write_text("".join(f"{name}={value}\n" for name, value in self.state.items()))
        fresh.replace(self.file)


def uuid_of(index: int) -> str:
    """Return the UUID of one of the stand-in's GPUs."""
    return f"GPU-fa4e0000-0000-0000-0000-{index:012d}"
