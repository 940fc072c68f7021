"""Rows as aligned lines, the same in every command. Pure. Decides what gives way on a narrow terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

_GAP: Final = "  "


def table(
    rows: Sequence[Sequence[str]], *, width: int | None = None, spare: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the rows, whose first is the head, as lines with aligned columns.

    Where these are longer than `width` columns of the terminal (None is no limit), the columns whose heads
    `spare` names are left out, from its first on, until they fit; a last line then says which.
    """
    left_out: list[str] = []
    while spare[len(left_out) :] and width is not None and _length(_without(rows, left_out)) > width:
        left_out.append(spare[len(left_out)])
    shown = _without(rows, left_out)
    for row in shown:
        yield _GAP.join(cell.ljust(wide) for cell, wide in zip(row, _widths(shown), strict=True)).rstrip()
    if left_out:
        yield f"(no room for {', '.join(left_out)})"


def _without(rows: Sequence[Sequence[str]], left_out: Sequence[str]) -> Sequence[Sequence[str]]:
    kept = [at for at, head in enumerate(rows[0]) if head not in left_out]
    return [[row[at] for at in kept] for row in rows]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _length(rows: Sequence[Sequence[str]]) -> int:
    widths = _widths(rows)
    return sum(widths) + len(_GAP) * (len(widths) - 1)
