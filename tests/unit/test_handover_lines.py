from __future__ import annotations

import pytest

from gateway.handover.lines import (
    Estate,
    Over,
    UnderWay,
    decode_estate,
    decode_over,
    encode_estate,
    encode_over,
)
from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.types import Arrived, Finished, Left

LONG = Variant("sha256:a", (("num_ctx", 4096), ("use_mmap", True)))


def way(at: float) -> UnderWay:
    """Return an answer under way, given its slot two seconds after it came at that moment."""
    request = Arrived(
        request=RequestId("r.1"),
        variant=LONG,
        arrived_at=at,
        deadline=at + 99,
        keep_alive_s=None,
        keep_alive_given=True,
        tenant="ann",
        session="s",
        prompt_tokens=7,
    )
    return UnderWay(request, Instance("gpu0", 3), at + 2)


def test_an_estate_says_the_same_on_the_other_sides_clock() -> None:
    """Moments are told as ages: the clocks of two processes need not agree."""
    held = ((Instance("gpu0", 3), LONG, 4096),)
    told = encode_estate(Estate((way(100.0),), held, (LONG,)), now=110.0)
    assert told.endswith(b"\n")
    assert told.count(b"\n") == 1
    read = decode_estate(told, now=1010.0)
    assert (read.held, read.passed) == (held, (LONG,))
    (one,) = read.under_way
    assert (one.instance, one.granted_at) == (Instance("gpu0", 3), 1002.0)
    assert (one.request.arrived_at, one.request.variant, one.request.tenant) == (1000.0, LONG, "ann")
    assert (one.request.keep_alive_given, one.request.keep_alive_s) == (True, None)
    assert one.request.admitted


@pytest.mark.parametrize(
    ("event", "over"),
    [
        (Left(RequestId("r")), Over(RequestId("r"), ended_well=False)),
        (
            Finished(RequestId("r"), 3, 7),
            Over(RequestId("r"), ended_well=True, output_tokens=3, prompt_tokens=7),
        ),
    ],
)
def test_an_end_is_told_with_what_the_scheduler_learns_of_it(event: Finished | Left, over: Over) -> None:
    """Tokens where the worker counted them."""
    assert Over.of(event) == over
    assert decode_over(encode_over(over)) == over


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"under_way":[{}]}', b"no json"])
def test_what_another_version_says_is_refused(line: bytes) -> None:
    """Such a gateway cannot be taken over from: it serves on."""
    with pytest.raises(ValueError, match=r".*"):
        decode_estate(line, now=0.0)
    with pytest.raises(ValueError, match=r".*"):
        decode_over(line)
