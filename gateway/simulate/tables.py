"""CSV texts as traces and lengths, or what is wrong with which line. Pure.

Columns are found by name, in any order; others are left aside, so that any trace also serves for lengths.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from math import isfinite
from typing import Final

from gateway.simulate.workload import Row, Tokens

_LENGTHS: Final = ("in_tokens", "out_tokens")
_TRACE: Final = ("t_s", "model", *_LENGTHS)


class TableError(ValueError):
    """A file that cannot be used; the text names line and column."""


def read_trace(text: str) -> list[Row]:
    """Return the requests of a trace with the columns t_s, model, in_tokens, out_tokens and maybe tenant.

    Raises:
        TableError: a column is missing, a value is none, or there are no rows.
    """
    return [
        Row(_number(cells, "t_s", line), cells["model"], cells.get("tenant") or "", _tokens(cells, line))
        for line, cells in _rows(text, _TRACE)
    ]


def read_lengths(text: str) -> list[Tokens]:
    """Return the pairs of the columns in_tokens and out_tokens.

    Raises:
        TableError: a column is missing, a value is none, or there are no rows.
    """
    return [_tokens(cells, line) for line, cells in _rows(text, _LENGTHS)]


def _rows(text: str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    commented = sum(line.startswith("#") for line in text.splitlines())
    found = reader.fieldnames or ()
    missing = [column for column in columns if column not in found]
    if missing:
        raise TableError(f"has no column {missing[0]}: its first line must name {', '.join(columns)}")
    empty = True
    for cells in reader:
        empty = False
        yield reader.line_num + commented, {name: cell or "" for name, cell in cells.items() if name}
    if empty:
        raise TableError("holds no rows behind the names of its columns")


def _tokens(cells: dict[str, str], line: int) -> Tokens:
    """Return both lengths; an answer has at least the token by which it is noticed."""
    prompt, output = (int(_number(cells, column, line)) for column in _LENGTHS)
    return Tokens(max(1, prompt), max(1, output))


def _number(cells: dict[str, str], column: str, line: int) -> float:
    try:
        number = float(cells[column])
    except ValueError:
        number = -1.0
    if not (isfinite(number) and number >= 0):
        raise TableError(f"line {line}: {column}: {cells[column]!r} is no number of at least 0")
    return number
