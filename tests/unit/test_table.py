from __future__ import annotations

from supervisor.contract.table import table

ROWS = [("WORKER", "DIGEST", "SIZE"), ("cpu0", "f4cbabd5e113", "72.4 MB"), ("a", "", "")]


def test_columns_are_aligned_and_nothing_trails() -> None:
    """So that lines can be compared with the eye, and copied."""
    assert list(table(ROWS)) == [
        "WORKER  DIGEST        SIZE",
        "cpu0    f4cbabd5e113  72.4 MB",
        "a",
    ]


def test_a_table_that_fits_is_whole() -> None:
    """To the last column of the terminal."""
    assert list(table(ROWS, width=29, spare=("DIGEST",))) == list(table(ROWS))


def test_columns_that_can_be_spared_give_way_and_are_named() -> None:
    """A wrapped table cannot be read; what is missing must not be missed."""
    assert list(table(ROWS, width=28, spare=("DIGEST", "SIZE"))) == [
        "WORKER  SIZE",
        "cpu0    72.4 MB",
        "a",
        "(no room for DIGEST)",
    ]


def test_a_terminal_narrower_than_the_rest_wraps_it() -> None:
    """What cannot be spared is never cut."""
    assert list(table(ROWS, width=5, spare=("DIGEST",)))[1] == "cpu0    72.4 MB"
