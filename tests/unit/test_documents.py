from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from supervisor.core.worker import TABLE

ROOT = Path(__file__).parents[2]


def test_state_diagram_is_the_transition_table() -> None:
    """Every edge of ARCHITECTURE.md's diagram is in the table and the other way round."""
    edges: dict[tuple[str, str], set[str]] = defaultdict(set)
    for (state, event), row in TABLE.items():
        for target in row.to:
            edges[state, target].add(event.__name__)
    wanted = [f"  {a} --> {b}: {', '.join(sorted(events))}" for (a, b), events in sorted(edges.items())]
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    drawn = text.partition("stateDiagram-v2\n")[2].partition("\n```")[0].splitlines()
    assert drawn == wanted
