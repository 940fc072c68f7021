from __future__ import annotations

import pytest

from supervisor.core.gpu_health import (
    XIDS,
    Advice,
    Claim,
    Foreign,
    GpuHealth,
    Reading,
    Standing,
    Verdict,
    advise,
)

GIB = 2**30
FINE = Reading(total_bytes=24 * GIB, uncorrected=0)
L4 = "GPU 0 NVIDIA L4"


def health(*before: Reading) -> GpuHealth:
    """Return a GPU of which these were read, five seconds apart, until 0."""
    gpu = GpuHealth(L4)
    for at, reading in enumerate(before):
        gpu.read(reading, 5.0 * (at - len(before)))
    return gpu


def test_a_healthy_card_is_well_and_nothing_is_said() -> None:
    """Reading after reading."""
    gpu = health(FINE)
    assert gpu.read(FINE, 0.0) == Verdict(Standing.WELL, "", 24 * GIB, 0)


def test_a_lost_card_condemns_at_once_and_is_trusted_after_two_good_readings() -> None:
    """The driver's word is final; a card that flickers stays out."""
    gpu = health(FINE)
    lost = gpu.read(Reading(lost="GPU is lost"), 0.0)
    assert lost.standing is Standing.QUARANTINE
    assert lost.reason.startswith("GPU 0 NVIDIA L4 is lost (GPU is lost): `dmesg")
    standings = [gpu.read(r, 5.0).standing for r in (FINE, Reading(lost="again"), FINE, FINE)]
    assert standings == [Standing.QUARANTINE] * 3 + [Standing.WELL]


def test_a_reading_that_fails_is_told_and_three_in_a_row_are_a_loss() -> None:
    """A driver may be busy for a moment."""
    gpu = health(FINE)
    failing = Reading(unreadable="Unknown Error")
    standings = [gpu.read(failing, 5.0 * at).standing for at in range(3)]
    assert standings == [Standing.TOLD, Standing.TOLD, Standing.QUARANTINE]


def test_a_card_that_was_never_read_is_not_lost_for_failing() -> None:
    """It may be none of NVIDIA's."""
    gpu = health()
    assert [gpu.read(Reading(unreadable="Not Found"), at).standing for at in range(5)] == [Standing.TOLD] * 5


@pytest.mark.parametrize("xid", XIDS)
def test_an_xid_of_the_table_ends_what_computes_there(xid: int) -> None:
    """With what helps in the reason."""
    verdict = health(FINE).read(Reading(total_bytes=1, xids=(xid,)), 0.0)
    assert verdict.standing is XIDS[xid][0]
    assert verdict.reason == f"{L4}: Xid {xid}, {XIDS[xid][1]}"


def test_other_xids_are_told_for_ten_minutes() -> None:
    """31 is a program's own fault."""
    gpu = health(FINE)
    verdict = gpu.read(Reading(xids=(31,)), 0.0)
    assert (verdict.standing, verdict.reason) == (
        Standing.TOLD,
        "GPU 0 NVIDIA L4: Xid 31 (see `dmesg | grep -i xid`)",
    )
    assert gpu.read(FINE, 599.0).standing is Standing.TOLD
    assert gpu.read(FINE, 600.0).standing is Standing.WELL


def test_memory_errors_that_grow_restart_once() -> None:
    """The count at the start is history; one that shrinks is a new driver's."""
    gpu = health(Reading(uncorrected=7))
    grown = gpu.read(Reading(uncorrected=9), 0.0)
    assert (grown.standing, grown.reason) == (
        Standing.RESTART,
        "GPU 0 NVIDIA L4: 2 more memory errors that could not be corrected",
    )
    after = [gpu.read(Reading(uncorrected=count), 20.0).standing for count in (9, 0, 0)]
    assert after == [Standing.WELL] * 3


def test_one_fault_that_is_told_in_several_ways_restarts_once() -> None:
    """An Xid now and the counter five seconds later."""
    gpu = health(FINE)
    assert gpu.read(Reading(xids=(48, 94, 63)), 0.0).standing is Standing.RESTART
    assert gpu.read(Reading(uncorrected=1), 5.0).standing is Standing.WELL


def test_the_third_restart_within_an_hour_is_a_rest_of_ten_minutes() -> None:
    """After which the card is tried again."""
    gpu = health(FINE)
    standings = [gpu.read(Reading(xids=(94,)), at).standing for at in (0.0, 1800.0, 3599.0)]
    assert standings == [Standing.RESTART, Standing.RESTART, Standing.QUARANTINE]
    assert "fault 3 within 60 minutes" in gpu.read(FINE, 4198.0).reason
    assert gpu.read(FINE, 4199.0).standing is Standing.WELL


def test_throttling_is_told_when_it_lasts_and_until_it_ends() -> None:
    """One hot reading is none, nor is one cool one."""
    gpu, hot = health(FINE), Reading(throttled="it is hot")
    told = [bool(gpu.read(r, 0.0).reason) for r in (hot, FINE, hot, hot, FINE, hot, FINE, FINE)]
    assert told == [False, False, False, True, True, True, True, False]


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (Reading(remap_pending=True), "a memory row waits"),
        (Reading(remap_failed=True), "could not be replaced"),
    ],
)
def test_rows_that_wait_for_a_remap_are_told(reading: Reading, words: str) -> None:
    """The card still computes right."""
    verdict = health(FINE).read(reading, 0.0)
    assert verdict.standing is Standing.TOLD
    assert words in verdict.reason


def taken(gib: float, pid: int = 4242) -> Reading:
    """A program holds so much of the card."""
    return Reading(total_bytes=24 * GIB, foreign=(Foreign(pid, "python3", int(gib * GIB)),))


def test_memory_that_others_take_counts_at_once_and_is_back_when_that_lasts() -> None:
    """Told with pid and name."""
    gpu = health(FINE)
    verdict = gpu.read(taken(6), 0.0)
    assert verdict.reason == "GPU 0 NVIDIA L4: python3 (pid 4242) holds 6.0 GiB of its memory"
    readings = (taken(7), taken(2), taken(7), FINE, FINE)
    seen = [gpu.read(r, 5.0).foreign_bytes // GIB for r in readings]
    assert seen == [7, 7, 7, 7, 0]


def test_a_desktops_memory_is_not_worth_a_word() -> None:
    """The reserve is there for it."""
    assert health(FINE).read(taken(0.2), 0.0) == Verdict(Standing.WELL, "", 24 * GIB, 0)


# From GPUs to workers


def verdict(standing: Standing = Standing.WELL, *, foreign: float = 0.0, total: float = 24.0) -> Verdict:
    """A verdict with a reason that names the standing."""
    reason = "" if standing is Standing.WELL else str(standing)
    return Verdict(standing, reason, int(total * GIB), int(foreign * GIB))


def test_a_worker_is_as_well_as_its_worst_gpu() -> None:
    """And the others on other cards are left alone."""
    claims = (Claim("pair", ("a", "b"), 0), Claim("other", ("c",), 0))
    verdicts = {"a": verdict(Standing.TOLD), "b": verdict(Standing.QUARANTINE), "c": verdict()}
    assert advise(claims, verdicts) == [
        Advice("pair", Standing.QUARANTINE, "quarantine", 0),
        Advice("other", Standing.WELL, "", 0),
    ]


def test_gpus_of_which_nothing_is_known_give_no_advice() -> None:
    """Such as those of another maker."""
    assert advise((Claim("amd", ("x",), GIB),), {}) == []


@pytest.mark.parametrize(
    ("given", "foreign", "withheld"), [(10, 5, 0), (22, 5, 5), (22, 30, 22), (10, 13, 1)]
)
def test_first_goes_what_no_worker_was_given(given: int, foreign: int, withheld: int) -> None:
    """Of 24 GiB, 22.08 are for models and 1.92 are kept free whatever comes."""
    (advice,) = advise((Claim("a", ("g",), given * GIB),), {"g": verdict(foreign=foreign)})
    assert round(advice.withheld_bytes / GIB) == withheld


def test_workers_that_share_a_gpu_share_the_loss() -> None:
    """In proportion to what each was given."""
    claims = (Claim("a", ("g",), 14 * GIB), Claim("b", ("g",), 7 * GIB))
    one, two = advise(claims, {"g": verdict(foreign=10)})
    assert one.withheld_bytes // 2 == pytest.approx(two.withheld_bytes, abs=2)
    assert one.withheld_bytes + two.withheld_bytes == pytest.approx((10 - 1.08) * GIB, rel=1e-3)
