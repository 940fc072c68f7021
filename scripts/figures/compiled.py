"""A copy of this Corral with its scheduler compiled, as a wheel has it that was built with the mypyc hook.

Nothing is left in the tree that is measured: the hook would put its libraries beside the sources, where they
would be imported in their place however the sources change.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Final

from scripts.figures.say import say

_ROOT: Final = Path(__file__).parents[2]
_SOURCES: Final = ("pyproject.toml", "README.md", "LICENSE", "gateway", "supervisor", "scripts", "configs")
_HOOK: Final = {"HATCH_BUILD_HOOK_ENABLE_MYPYC": "1"}


class NotCompiledError(Exception):
    """There is no C compiler, or it failed; the text says which."""


def compiled_tree(directory: Path) -> Path:
    """Return a directory to run from, with everything that this tree has and the compiled scheduler.

    Raises:
        NotCompiledError: it could not be built.
    """
    if shutil.which("cc") is None:
        raise NotCompiledError("there is no C compiler (cc)")
    sources, wheels, tree = directory / "sources", directory / "wheels", directory / "tree"
    for name in _SOURCES:
        copied = shutil.copytree if (_ROOT / name).is_dir() else shutil.copy
        sources.mkdir(exist_ok=True)
        copied(_ROOT / name, sources / name)
    say("compiling the scheduler")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(wheels), str(sources)]
    done = subprocess.run(build, env={**os.environ, **_HOOK}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotCompiledError(f"pip wheel failed: {done.stderr.strip()[-2000:]}")
    zipfile.ZipFile(next(wheels.glob("*.whl"))).extractall(tree)
    for name in ("scripts", "configs"):
        shutil.copytree(_ROOT / name, tree / name)
    return tree


def figures_of(tree: Path, call: str) -> dict[str, Any]:
    """Return what `module:function(arguments)` returns there, in a process of its own."""
    module, _, function = call.partition(":")
    program = f"import json, {module}; print(json.dumps({module}.{function}))"
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
