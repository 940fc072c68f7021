"""The scheduler's package once more under another name, with one fault planted into its source."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

import gateway.scheduling

FOLDER: Final = Path(gateway.scheduling.__file__).parent
NAME: Final = "scheduling_with_a_fault"
WORDS: Final = frozenset({"names", "reasons", "types"})
"""What both packages share, so that they understand the same events."""
_ELSEWHERE: Final = re.compile(rf"\bgateway\.scheduling\b(?!\.({'|'.join(WORDS)})\b)")


class Fault(NamedTuple):
    """A change of one module's source that breaks a promise."""

    module: str
    found: str
    replacement: str


@contextmanager
def scheduling_with(fault: Fault) -> Iterator[ModuleType]:
    """Give the faulty package's `scheduler` module; no file is written."""
    package = ModuleType(NAME)
    package.__path__ = []
    sys.modules[NAME] = package
    try:
        for stem in _in_order():
            module = sys.modules[f"{NAME}.{stem}"] = ModuleType(f"{NAME}.{stem}")
            setattr(package, stem, module)
            exec(compile(_source(stem, fault), f"{stem}.py", "exec"), module.__dict__)  # noqa: S102 -- our own files, one edit
        yield sys.modules[f"{NAME}.scheduler"]
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
            del sys.modules[name]


def _source(stem: str, fault: Fault) -> str:
    text = (FOLDER / f"{stem}.py").read_text()
    if stem == fault.module:
        assert text.count(fault.found) == 1, f"the fault must hit exactly one place: {fault.found!r}"
        text = text.replace(fault.found, fault.replacement)
    return _ELSEWHERE.sub(NAME, text)


def _in_order() -> list[str]:
    """Return the modules so that each comes after those which it imports."""
    import_module("gateway.scheduling.scheduler")
    found: list[str] = []
    stems = {path.stem for path in FOLDER.glob("*.py")} - WORDS - {"__init__"}

    def visit(stem: str) -> None:
        if stem in found:
            return
        text = (FOLDER / f"{stem}.py").read_text()
        for wanted in sorted(stems):
            if wanted != stem and re.search(
                rf"gateway\.scheduling(\.{wanted}\b| import .*\b{wanted}\b)", text
            ):
                visit(wanted)
        found.append(stem)

    for stem in sorted(stems):
        visit(stem)
    return found
