from __future__ import annotations

import pytest

from supervisor.contract.reports import Hung, Known, Process, ReportError, decode_report, encode_report
from supervisor.core.gateways import is_idle, is_served, settings_in_force

WORKER = Process(worker="gpu0", incarnation=3)


def known(generation: int, *idle: Process, settings: int = 1, serving: tuple[Process, ...] = ()) -> Known:
    """Return what a gateway tells."""
    return Known(boot_id="b", generation=generation, settings=settings, idle=idle, serving=serving)


def test_a_worker_is_idle_when_every_gateway_says_so() -> None:
    """During an upgrade there are two, and either may still have answers there."""
    assert is_idle([known(7, WORKER), known(8, WORKER)], WORKER, since_generation=7)
    assert not is_idle([known(7, WORKER), known(8)], WORKER, since_generation=7)


def test_what_was_said_before_the_drain_does_not_count() -> None:
    """It was drained, resumed and drained again: the old word is about the first drain."""
    assert not is_idle([known(6, WORKER)], WORKER, since_generation=7)


def test_a_successor_is_not_idle_for_its_predecessor() -> None:
    """Each process by itself."""
    before = Process(worker="gpu0", incarnation=2)
    assert not is_idle([known(9, before)], WORKER, since_generation=7)


def test_without_a_gateway_nobody_knows() -> None:
    """The next one tells."""
    assert not is_idle([], WORKER, since_generation=0)
    assert not is_served([], WORKER)
    assert settings_in_force([]) == 0


def test_settings_are_in_force_when_the_slowest_gateway_has_them() -> None:
    """And a worker is served as soon as one gateway does."""
    gateways = [known(7, settings=4, serving=(WORKER,)), known(7, settings=3)]
    assert settings_in_force(gateways) == 3
    assert is_served(gateways, WORKER)


@pytest.mark.parametrize(
    "report", [known(7, WORKER, serving=(WORKER,)), Hung(worker="gpu0", incarnation=3, why="silent")]
)
def test_a_report_comes_back_as_it_was_sent(report: Known | Hung) -> None:
    """One line each."""
    line = encode_report(report)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_report(line) == report


@pytest.mark.parametrize("line", [b"", b"{}", b'{"report":"else"}', b"nonsense"])
def test_other_lines_are_no_reports(line: bytes) -> None:
    """They are told in the log and change nothing."""
    with pytest.raises(ReportError):
        decode_report(line)
