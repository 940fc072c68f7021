from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("supervisor", "gateway")
PURE = (
    "supervisor/core",
    "supervisor/contract",
    "gateway/scheduling",
    "gateway/simulate",
    "gateway/store",
    "gateway/surfaces",
    "gateway/external",
)
PURE_FILES = (
    "gateway/decisions/log.py",
    "gateway/decisions/memory.py",
    "gateway/handover/lines.py",
    "gateway/health/breaker.py",
    "gateway/health/rounds.py",
    "gateway/health/signs.py",
    "gateway/http/origins.py",
    "gateway/http/refusals.py",
    "gateway/fleet/offers.py",
    "gateway/decisions/queue_rows.py",
    "gateway/relay/answers.py",
    "gateway/relay/budget.py",
    "gateway/relay/continuation.py",
    "gateway/relay/outcome.py",
    "gateway/relay/patience.py",
    "gateway/relay/stream.py",
    "gateway/fleet/roster.py",
    "gateway/fleet/variants.py",
    "gateway/fleet/views.py",
    "gateway/workers/devices.py",
    "gateway/workers/effective_slots.py",
    "gateway/workers/engines.py",
    "gateway/workers/faults.py",
)
"""Decisions that stand beside what carries them out. They import each other, and no more than those above."""
SHELL_MODULES = frozenset(
    [
        "aiohttp",
        "asyncio",
        "http",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "uvloop",
    ]
)
SHELL_OF_THE_CONTRACT = "supervisor/contract/shell/"
"""What both programs do with their own streams, signals and tasks; the rest must not know it."""
ALLOWED_IN_PURE = frozenset({"random.Random", "urllib.parse", "http.HTTPStatus"})
"""Chance and names are arguments, so their types may be named; a status is a number."""
PROJECT_IMPORTS_OF = {
    "supervisor/contract": ("supervisor.contract",),
    "supervisor/core": ("supervisor.contract", "supervisor.core"),
    "gateway/scheduling": ("supervisor.contract", "gateway.scheduling"),
    "gateway/external": ("supervisor.contract", "gateway.external"),
    "gateway/store": ("supervisor.contract", "gateway.surfaces", "gateway.store"),
    "gateway/simulate": ("supervisor.contract", "gateway.scheduling", "gateway.simulate"),
    "gateway/surfaces": ("supervisor.contract", "gateway.scheduling", "gateway.surfaces"),
}
ONE_FILE_EACH = {"pynvml": "supervisor/host/gpus.py", "yaml": "supervisor/contract/yaml_tree.py"}
LONGEST_FILE = 450
LONGEST_FUNCTION = 60


@dataclass(frozen=True)
class Source:
    """One file of the program."""

    name: str
    text: str
    tree: ast.Module

    @property
    def imports(self) -> set[str]:
        """What it imports, names of `from` imports included: `random.Random`."""
        return set(_imports(self.tree))

    @property
    def function_lengths(self) -> dict[str, int]:
        """Lines of each function, its docstring left out: explaining more must not cost anything."""
        functions = (
            node for node in ast.walk(self.tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        )
        return {f"{self.name}:{node.lineno} {node.name}": _length(node) for node in functions}


@cache
def sources() -> tuple[Source, ...]:
    """Return all files of the two packages."""
    files = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    texts = ((path.relative_to(ROOT).as_posix(), path.read_text()) for path in files)
    return tuple(Source(name, text, ast.parse(text)) for name, text in texts)


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    docstring = function.body[0] if ast.get_docstring(function, clean=False) is not None else None
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if docstring is None or docstring.end_lineno is None:
        return lines
    return lines - (docstring.end_lineno - docstring.lineno + 1)


def decisions_of(package: str) -> tuple[Source, ...]:
    """Return the files of a pure room."""
    return tuple(
        source
        for source in sources()
        if source.name.startswith(f"{package}/") and not source.name.startswith(SHELL_OF_THE_CONTRACT)
    )


def inside(name: str, packages: tuple[str, ...]) -> bool:
    """Tell whether a dotted name is in one of the packages."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_the_supervisor_never_imports_the_gateway() -> None:
    """It must keep running, and be understood, without it."""
    wrong = {
        source.name: name
        for source in sources()
        if source.name.startswith("supervisor/")
        for name in source.imports
        if inside(name, ("gateway",))
    }
    assert not wrong


def test_the_gateway_sees_nothing_of_the_supervisor_but_the_contract() -> None:
    """So a gateway can front workers that somebody else runs."""
    wrong = {
        source.name: name
        for source in sources()
        if source.name.startswith("gateway/")
        for name in source.imports
        if inside(name, ("supervisor",)) and not inside(name, ("supervisor.contract",))
    }
    assert not wrong


@pytest.mark.parametrize("package", PURE)
def test_decisions_touch_nothing(package: str) -> None:
    """No clock, no chance, no files, no sockets: what they need is an argument."""
    wrong = {
        source.name: name
        for source in decisions_of(package)
        for name in source.imports
        if name.partition(".")[0] in SHELL_MODULES and not inside(name, tuple(ALLOWED_IN_PURE))
    }
    assert not wrong


@pytest.mark.parametrize("file", PURE_FILES)
def test_decisions_beside_the_shell_touch_nothing_either(file: str) -> None:
    """Neither does what they import: only what is pure itself."""
    pure = tuple(name.removesuffix(".py").replace("/", ".") for name in (*PURE, *PURE_FILES))
    (source,) = (source for source in sources() if source.name == file)
    shell = {name for name in source.imports if name.partition(".")[0] in {*SHELL_MODULES, "structlog"}}
    impure = {name for name in source.imports if inside(name, PACKAGES) and not inside(name, pure)}
    assert not {name for name in shell if not inside(name, tuple(ALLOWED_IN_PURE))}
    assert not impure


@pytest.mark.parametrize("package", PURE)
def test_imports_point_to_the_core(package: str) -> None:
    """A decision that imports the shell cannot be read, or tested, without it."""
    wrong = {
        source.name: name
        for source in decisions_of(package)
        for name in source.imports
        if inside(name, PACKAGES)
        and (inside(name, ("supervisor.contract.shell",)) or not inside(name, PROJECT_IMPORTS_OF[package]))
    }
    assert not wrong


@pytest.mark.parametrize("module", ONE_FILE_EACH)
def test_what_can_be_replaced_is_imported_in_one_file(module: str) -> None:
    """Its types and exceptions end there."""
    importers = [
        source.name for source in sources() if any(inside(name, (module,)) for name in source.imports)
    ]
    assert importers == [ONE_FILE_EACH[module]]


def test_every_file_says_what_it_is_about() -> None:
    """The head of a file tells its theory."""
    assert not [source.name for source in sources() if not ast.get_docstring(source.tree)]


def test_files_and_functions_are_small() -> None:
    """A function beyond a screen decides more than one thing."""
    files = {source.name: source.text.count("\n") for source in sources()}
    assert {name: lines for name, lines in files.items() if lines > LONGEST_FILE} == {}
    lengths = {name: lines for source in sources() for name, lines in source.function_lengths.items()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}
    assert median(lengths.values()) <= 8
    assert quantiles(lengths.values(), n=10)[-1] <= 30
