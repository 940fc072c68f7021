"""What holds for a GPU's verdicts whatever is read of it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.gpu_health import (
    XIDS,
    Claim,
    Foreign,
    GpuHealth,
    HealthPolicy,
    Reading,
    Standing,
    Verdict,
    advise,
)

POLICY = HealthPolicy()
GIB = 2**30
FOREIGN = st.builds(Foreign, st.integers(1, 5), st.just("x"), st.integers(0, 30 * GIB))
READINGS = st.builds(
    Reading,
    lost=st.sampled_from(["", "", "", "", "lost"]),
    unreadable=st.sampled_from(["", "", "", "busy"]),
    total_bytes=st.just(24 * GIB),
    foreign=st.lists(FOREIGN, max_size=2).map(tuple),
    uncorrected=st.one_of(st.none(), st.integers(0, 3)),
    throttled=st.sampled_from(["", "hot"]),
    xids=st.lists(st.sampled_from([13, 31, 79, 94, 119]), max_size=2).map(tuple),
)
LIVES = st.lists(st.tuples(READINGS, st.floats(1.0, 1000.0)), min_size=1, max_size=40)


def told(life: list[tuple[Reading, float]]) -> list[tuple[float, Reading, Verdict]]:
    """Return when what was read and what came of it."""
    gpu, now, seen = GpuHealth("GPU 0"), 0.0, []
    for reading, passed in life:
        now += passed
        seen.append((now, reading, gpu.read(reading, now)))
    return seen


@given(LIVES)
def test_a_card_that_is_lost_now_never_computes(life: list[tuple[Reading, float]]) -> None:
    """Nor one that a grave Xid tells of."""
    for _, reading, verdict in told(life):
        grave = any(XIDS[xid][0] is Standing.QUARANTINE for xid in reading.xids if xid in XIDS)
        if reading.lost or grave:
            assert verdict.standing is Standing.QUARANTINE


@given(LIVES)
def test_every_verdict_but_well_has_a_reason(life: list[tuple[Reading, float]]) -> None:
    """People read it in `corral ps`."""
    assert all(bool(v.reason) == (v.standing is not Standing.WELL) for _, _, v in told(life))


@given(LIVES)
def test_restarts_are_few_and_apart(life: list[tuple[Reading, float]]) -> None:
    """No more than two within any hour; the next is a quarantine."""
    restarts = [at for at, _, verdict in told(life) if verdict.standing is Standing.RESTART]
    for at, third in zip(restarts, restarts[POLICY.restarts :], strict=False):
        assert third - at >= POLICY.window_s


@given(LIVES)
def test_a_card_that_stays_well_is_trusted_again(life: list[tuple[Reading, float]]) -> None:
    """Two good readings after the longest rest: nothing keeps a good card out for ever."""
    gpu, now = GpuHealth("GPU 0"), 0.0
    for reading, passed in life:
        now += passed
        gpu.read(reading, now)
    good = Reading(total_bytes=24 * GIB)
    gpu.read(good, now + POLICY.rest_s)
    assert gpu.read(good, now + POLICY.rest_s + POLICY.told_s).standing is Standing.WELL


@given(LIVES)
def test_memory_is_never_given_back_on_one_reading(life: list[tuple[Reading, float]]) -> None:
    """What is believed to be foreign shrinks only after a reading that already showed less."""
    seen = [entry for entry in told(life) if not (entry[1].lost or entry[1].unreadable)]
    for (_, earlier, before), (_, _, after) in pairwise(seen):
        if after.foreign_bytes < before.foreign_bytes:
            assert sum(f.used_bytes for f in earlier.foreign) < before.foreign_bytes


@given(
    st.lists(st.integers(1, 12 * GIB), min_size=1, max_size=4),
    st.integers(0, 40 * GIB),
    st.integers(0, 40 * GIB),
)
def test_what_is_withheld_is_bounded_and_grows_with_what_others_take(
    given_bytes: list[int], less: int, more: int
) -> None:
    """Nobody lacks more than he has, all together no more than was taken."""
    claims = tuple(Claim(str(at), ("g",), size) for at, size in enumerate(given_bytes))
    few, many = sorted((less, more))
    before = advise(claims, {"g": Verdict(Standing.WELL, "", 24 * GIB, few)})
    after = advise(claims, {"g": Verdict(Standing.WELL, "", 24 * GIB, many)})
    for claim, one, two in zip(claims, before, after, strict=True):
        assert 0 <= one.withheld_bytes <= two.withheld_bytes <= claim.given_bytes
    assert sum(advice.withheld_bytes for advice in after) <= many
