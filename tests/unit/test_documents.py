from __future__ import annotations

import re
from collections import defaultdict
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from supervisor.core.worker import TABLE

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PROGRAMS = ("gateway", "supervisor")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("configs/**/*.md")])


def test_state_diagram_is_the_transition_table() -> None:
    """Every edge of ARCHITECTURE.md's diagram is in the table and the other way round."""
    edges: dict[tuple[str, str], set[str]] = defaultdict(set)
    for (state, event), row in TABLE.items():
        for target in row.to:
            edges[state, target].add(event.__name__)
    wanted = [f"  {a} --> {b}: {', '.join(sorted(events))}" for (a, b), events in sorted(edges.items())]
    drawn = ARCHITECTURE.partition("stateDiagram-v2\n")[2].partition("\n```")[0].splitlines()
    assert drawn == wanted


def test_every_room_is_on_the_map() -> None:
    """Whoever looks for the place of a change must find it in ARCHITECTURE.md."""
    folders = {file.parent for top in PROGRAMS for file in (ROOT / top).rglob("*.py")}
    files = {file for top in PROGRAMS for file in (ROOT / top).glob("[!_]*.py")}
    rooms = [f"{folder.name}/`" for folder in folders] + [file.name for file in files]
    assert [room for room in sorted(rooms) if room not in ARCHITECTURE] == []


def test_the_map_shows_nothing_that_is_not_there() -> None:
    """A file that was moved or renamed is renamed here too."""
    there = {file.name for file in ROOT.glob("*/**/*.py")}
    assert [name for name in re.findall(r"[\w/]*?(\w+\.py)`", ARCHITECTURE) if name not in there] == []


def test_every_command_is_in_the_readme() -> None:
    """So that nobody has to guess what there is."""
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Commands")[2].partition("\n## ")[0]
    missing = [
        entry.name
        for entry in entry_points(group="corral.commands")
        if not re.search(rf"[ |\\]{entry.name}[ |`\\]", table)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_pages_lead_somewhere(page: Path) -> None:
    """To files of the tree, and to headings that are there."""
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8"))
    targets = [((page.parent / file) if file else page, heading) for file, heading in links]
    assert [str(target) for target, heading in targets if not _has(target, heading)] == []


def _has(target: Path, heading: str) -> bool:
    if not heading:
        return target.exists()
    titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
    return heading in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]
