"""CSV texts as traces and lengths, or what is wrong with which line. Pure.

Columns are found by name, in any order; others are left aside, so that any trace also serves for lengths.
Lines that are empty or begin with `#` are passed over, and so is the space around a cell.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Final

from gateway.simulate.workload import Row, Tokens

_LENGTHS: Final = ("in_tokens", "out_tokens")
_TRACE: Final = ("t_s", "model", *_LENGTHS)
_LARGEST: Final = 1e12
"""Of any number: more is no length and no moment, and sums of it would be no numbers any more."""
_SHOWN: Final = 80
"""Letters of a first line that names other columns."""


class TableError(ValueError):
    """A file that cannot be used; the text names line and column."""


def read_trace(text: str) -> list[Row]:
    """Return the requests of a trace with the columns t_s, model, in_tokens, out_tokens and maybe tenant.

    Raises:
        TableError: a column is missing, a value is none, or there are no rows.
    """
    return [
        Row(
            _number(cells, "t_s", line),
            cells.get("model", ""),
            cells.get("tenant") or "",
            _tokens(cells, line),
        )
        for line, cells in _rows(text, _TRACE)
    ]


def read_lengths(text: str) -> list[Tokens]:
    """Return the pairs of the columns in_tokens and out_tokens.

    Raises:
        TableError: a column is missing, a value is none, or there are no rows.
    """
    return [_tokens(cells, line) for line, cells in _rows(text, _LENGTHS)]


class _Lines:
    """The lines of a text that hold something, and the number of the one that was read last."""

    def __init__(self, text: str) -> None:
        self._lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # at nothing else
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.number += 1
            if line.strip() and not line.startswith("#"):
                yield line + "\n"  # which a quoted cell keeps


def _rows(text: str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    lines = _Lines(text)
    reader = csv.reader(lines, skipinitialspace=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        _check_names(names, columns)
        row = None
        for row in reader:
            yield lines.number, dict(zip(names, (cell.strip() for cell in row), strict=False))
    except csv.Error as error:
        raise TableError(f"line {lines.number}: {error}") from error
    if row is None:
        raise TableError("holds no rows behind the names of its columns")


def _check_names(names: list[str], columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in names]
    if missing:
        found = f", not {','.join(names)[:_SHOWN]!r}" if names else ""
        raise TableError(
            f"has no column {missing[0]}: its first line must name {', '.join(columns)}, with commas "
            f"between them{found}"
        )


def _tokens(cells: dict[str, str], line: int) -> Tokens:
    """Return both lengths; an answer has at least the token by which it is noticed."""
    prompt, output = (int(_number(cells, column, line)) for column in _LENGTHS)
    return Tokens(max(1, prompt), max(1, output))


def _number(cells: dict[str, str], column: str, line: int) -> float:
    text = cells.get(column, "")
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= _LARGEST:
        raise TableError(f"line {line}: {column}: {text!r} is no number from 0 to {_LARGEST:g}")
    return number
