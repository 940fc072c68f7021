"""The variables that a systemd unit gives its process: what systemd says, or the unit's own files.

Decides how such texts are read. Must not know where they come from.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Final

_KEY: Final = "Environment="


def parse_environment(texts: Iterable[str]) -> dict[str, str]:
    """Return the variables of a unit: its text and those of its drop-ins, in systemd's order.

    Also reads what `systemctl show -p Environment` prints. An empty assignment forgets what came before;
    a line whose quotes do not match is passed over, as systemd does.
    """
    found: dict[str, str] = {}
    for text in texts:
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith(_KEY):
                assignments = _split(line.removeprefix(_KEY))
                if not assignments:
                    found.clear()
                pairs = (assignment.partition("=") for assignment in assignments)
                found |= {name: value for name, equals, value in pairs if equals}
    return found


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return ["unreadable"]
