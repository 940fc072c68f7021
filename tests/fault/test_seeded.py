"""Each piece of failure handling is needed: without it a fault test fails."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault.seeded import SEEDS, Seed
from tests.support.corral import plain_environment
from tests.support.supervisor import ROOT

PARTS = ("gateway", "supervisor", "tests", "scripts", "configs", "pyproject.toml", "README.md")

PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x", "-rs", "-m", "slow or not slow")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a directory with a copy of the program and its tests."""
    for name in PARTS:
        part, target = ROOT / name, tmp_path / name
        if part.is_dir():
            shutil.copytree(part, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(part, target)
    return tmp_path


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_the_handling_stands_where_the_list_says(seed: Seed) -> None:
    """Once, so that a seed changes what it means to change."""
    assert (ROOT / seed.file).read_text().count(seed.handling) == 1


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_without_it_the_fault_test_fails(copy: Path, seed: Seed) -> None:
    """The copy's test fails by what it asserts, or waits for in vain, and not because it could not run."""
    file = copy / seed.file
    file.write_text(file.read_text().replace(seed.handling, seed.instead))
    argv = (*PYTEST, f"tests/fault/{seed.test}")
    environ = {**plain_environment(), "PYTHONPATH": str(copy)}
    run = subprocess.run(argv, cwd=copy, env=environ, capture_output=True, text=True, check=False)
    if run.returncode == pytest.ExitCode.OK and " passed" not in run.stdout:
        pytest.skip(f"its test cannot run here: {run.stdout}")
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout
    assert not re.search("ImportError|ModuleNotFoundError|NameError", run.stdout), run.stdout
