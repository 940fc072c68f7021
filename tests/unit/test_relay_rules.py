from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random

import pytest

from gateway.relay.answers import error_text, failure_of, mistake_in
from gateway.relay.outcome import (
    MAX_BACKOFF_S,
    RULES,
    Broken,
    Failing,
    Garbage,
    Kind,
    NoRoute,
    NotSent,
    Outcome,
    Phase,
    Refused,
    StreamFailedError,
    TimedOut,
    backoff_s,
    breaks_of,
    describe,
    kind_of,
    may_retry,
    rule_of,
    status_of,
    to_tell,
)
from gateway.relay.stream import AsItComes, EndOfStream, WholeFrames, pump

MARK = b'"done":true'


ENDS: dict[Outcome, tuple[Kind, bool, bool, int]] = {
    NotSent("refused"): (Kind.NOT_SENT, True, False, 502),
    NotSent("too many open files", ours=True): (Kind.SHORTAGE, True, False, 503),
    TimedOut(Phase.CONNECT, 5): (Kind.NO_CONNECTION, True, False, 504),
    Refused(503, "busy"): (Kind.REFUSED, True, True, 503),
    Broken(0, "reset"): (Kind.BROKE_OFF, True, True, 502),
    Broken(1, "reset"): (Kind.BROKE_MID_STREAM, False, False, 502),
    Failing(500, "CUDA error"): (Kind.FAILING, True, True, 502),
    Garbage("a web page"): (Kind.GARBAGE, True, True, 502),
    TimedOut(Phase.FIRST_BYTE, 60): (Kind.SILENT, True, True, 504),
    TimedOut(Phase.NEXT_CHUNK, 300): (Kind.STALLED, False, False, 504),
    TimedOut(Phase.REQUEST, 600): (Kind.LATE, False, False, 504),
    NoRoute("old"): (Kind.NO_ROUTE, True, False, 501),
}
"""Each outcome with its kind, whether it is made again, whether that costs retry budget, and the status."""


@pytest.mark.parametrize("outcome", ENDS)
def test_only_what_reached_no_client_is_made_again(outcome: Outcome) -> None:
    """Each outcome has its rule, its status and a sentence."""
    rule = rule_of(outcome)
    assert (kind_of(outcome), rule.again, rule.costs, status_of(outcome)) == ENDS[outcome]
    assert may_retry(outcome, breaks=1) is rule.again
    assert describe(outcome)


def test_the_rules_are_total() -> None:
    """Every kind has its rule, and is the kind of some outcome."""
    assert set(RULES) == set(Kind) == {kind for kind, *_ in ENDS.values()}


def test_what_was_never_sent_costs_nothing_and_harms_nobody() -> None:
    """Neither retry budget nor a break; a request that was sent twice may have harmed twice."""
    assert not rule_of(NotSent("refused")).costs
    assert breaks_of(NotSent("refused")) == 0
    assert breaks_of(Broken(0, "reset")) == 1
    assert breaks_of(Broken(0, "reset", times=2)) == 2


def test_request_that_broke_three_connections_is_not_made_again() -> None:
    """It may be what breaks them; refusals have no such bound."""
    assert may_retry(Broken(0, "reset"), breaks=2)
    assert not may_retry(Broken(0, "reset"), breaks=3)
    assert may_retry(Refused(503, "busy"), breaks=3)


@pytest.mark.parametrize(
    ("after_s", "before", "told"),
    [
        (0.5, Refused(503, "busy"), Refused(503, "busy")),
        (20, Refused(503, "busy"), TimedOut(Phase.REQUEST, 20)),
        (0.5, None, TimedOut(Phase.REQUEST, 0.5)),
    ],
)
def test_an_attempt_that_had_no_time_does_not_hide_why_others_failed(
    after_s: float, before: Outcome | None, told: Outcome
) -> None:
    """Of 30 seconds: what took most of them is what is told."""
    assert to_tell(TimedOut(Phase.REQUEST, after_s), before, 30) == told


def test_any_other_failure_is_told_instead_of_the_one_before() -> None:
    """It is the newest word on the matter."""
    assert to_tell(Broken(0, "gone"), Refused(503, "busy"), 30) == Broken(0, "gone")


def test_backoff_grows_and_is_bounded() -> None:
    """Exponential with jitter around it, from 50 ms to 5 s."""
    waits = [backoff_s(attempt, Random(1)) for attempt in (1, 2, 3, 4)]
    assert waits == sorted(waits)
    assert 0.03 < waits[0] < 0.07
    assert backoff_s(10_000, Random(1)) <= MAX_BACKOFF_S * 1.25


@pytest.mark.parametrize("cut", range(1, 14))
async def test_last_frame_is_seen_however_it_is_split(cut: int) -> None:
    """The mark may come in two chunks."""
    frame = b"{" + MARK + b"}\n"
    written: list[bytes] = []
    end = EndOfStream((MARK,), b"\n")
    await pump(chunks(frame[:cut], frame[cut:]), collect(written), end, AsItComes(), must_end=True)
    assert b"".join(written) == frame


@pytest.mark.parametrize("cut", range(1, 20))
def test_frames_are_counted_however_they_are_split(cut: int) -> None:
    """Each counts once, also when its end comes in two chunks."""
    stream = b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n"
    end = EndOfStream((b"\ndata: [DONE]",), b"\n\n")
    for chunk in (stream[:cut], stream[cut:]):
        end.add(chunk)
    assert end.frames == 3


async def test_stream_without_its_last_frame_is_a_failure() -> None:
    """However cleanly it was closed; all bytes went to the client first."""
    written: list[bytes] = []
    with pytest.raises(StreamFailedError):
        await relay([b'{"done":false}\n'], written)
    assert written == [b'{"done":false}\n']


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        (b'{"response":"1"}\n{"error":"no memory"}\n', "no memory"),
        (b'data: {"choices":[]}\n\ndata: {"error":{"message":"no memory"}}\n\n', "no memory"),
        (b'event: error\ndata: {"type":"error","error":{"message":"no memory"}}\n\n', "no memory"),
        (b'event: error\r\ndata: {"error":"no memory"}\r\n\r\n', "no memory"),
        (b'{"error":"no memory"}\n{"response":"1"}\n', "the answer ended without its last frame"),
        (b'{"response":"{\\"error\\":\\"no memory\\"}"}\n', "the answer ended without its last frame"),
        (b'{"error":null,"response":"1"}\n', "the answer ended without its last frame"),
        (b"event: error\n\n", "the answer ended without its last frame"),
    ],
)
async def test_a_stream_that_ends_with_an_error_failed_for_what_that_says(frames: bytes, why: str) -> None:
    """Whichever surface's shape it has; a text that looks like one is none."""
    with pytest.raises(StreamFailedError, match=why):
        await relay([frames], [])


async def test_mark_inside_the_text_of_an_answer_does_not_count() -> None:
    """In a JSON text its quotes are escaped."""
    quoted = b'{"response":"\\"done\\":true","done":false}\n'
    with pytest.raises(StreamFailedError):
        await relay([quoted], [])


async def test_mark_of_events_counts_only_at_the_start_of_a_line() -> None:
    """A model that explains how streams end has not ended one."""
    explained = b'data: {"text":"then comes data: [DONE]"}\n\n'
    end = EndOfStream((b"\ndata: [DONE]",), b"\n\n")
    with pytest.raises(StreamFailedError):
        await pump(chunks(explained), collect([]), end, AsItComes(), must_end=True)
    end.add(b"data: [DONE]\n\n")
    assert end.seen


async def test_stump_of_a_frame_never_reaches_the_client() -> None:
    """However the answer ended: the error frame behind it is one of its own."""
    written: list[bytes] = []
    with pytest.raises(StreamFailedError):
        await relay([b'{"a":1}\n{"do', b'ne":'], written)
    assert b"".join(written) == b'{"a":1}\n'


@pytest.mark.parametrize("end", [b"\n", b"\n\n"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_frames_pass_whole_wherever_chunks_are_cut(end: bytes, line_end: bytes) -> None:
    """What has passed always ends with a frame, and nothing is lost or held longer than it must be."""
    stream = (b"one" + end + b"two" + end + b"three" + end).replace(b"\n", line_end)
    frame_end = end.replace(b"\n", line_end)
    for cut in range(1, len(stream)):
        frames = WholeFrames(end)
        passed = [frames.take(chunk) for chunk in (stream[:cut], stream[cut:])]
        assert all(piece.endswith(frame_end) for piece in passed if piece)
        assert passed[0].count(frame_end) == stream[:cut].count(frame_end)
        assert b"".join(passed) == stream


def test_frame_that_is_too_large_passes_in_pieces_and_is_closed_before_an_error() -> None:
    """Memory has a bound; the client's parser still sees the error as a frame of its own."""
    frames = WholeFrames(b"\n", bytes.upper, largest_bytes=4)
    assert (frames.take(b"ab"), frames.closing()) == (b"", b"")
    assert (frames.take(b"cde"), frames.closing()) == (b"abcde", b"\n")
    assert (frames.take(b"f\ng\n"), frames.closing()) == (b"f\nG\n", b"")


async def relay(parts: list[bytes], written: list[bytes]) -> None:
    """Pump frames that end with a line, of which the last has the mark."""
    end = EndOfStream((MARK,), b"\n")
    await pump(chunks(*parts), collect(written), end, WholeFrames(b"\n"), must_end=True)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    """Yield the parts that are not empty."""
    for part in parts:
        if part:
            yield part


def collect(written: list[bytes]):  # type: ignore[no-untyped-def]  # noqa: ANN201 -- a closure of the test's
    """Return a writer that keeps what it gets."""

    async def write(chunk: bytes) -> None:
        written.append(chunk)

    return write


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":"busy"}', "busy"),
        (b'{"error":{"message":"busy"}}', "busy"),
        (b"<html>", "<html>"),
        (b"[]", "[]"),
        (b"", ""),
    ],
)
def test_error_bodies_of_any_shape_are_read(body: bytes, text: str) -> None:
    """The message, or the body as it is."""
    assert error_text(body) == text


JSON = "application/json"


@pytest.mark.parametrize(
    ("status", "content_type", "body", "found"),
    [
        (200, JSON, b"{}", None),
        (200, JSON, b"", Broken),
        (200, "text/html", b"<html>", Garbage),
        (404, "text/html", b"<html>", Garbage),
        (404, JSON, b'{"error":"model not found"}', None),
        (404, "text/plain", b"404 page not found", NoRoute),
        (500, JSON, b'{"error":"llama runner process has terminated: exit status 2"}', Failing),
        (500, JSON, b'{"error":{"message":"CUDA error: an illegal memory access"}}', Failing),
        (500, JSON, b'{"error":"template: bad template"}', None),
        (502, "text/plain", b"bad gateway", Failing),
        (503, JSON, b'{"error":"busy"}', Refused),
    ],
)
def test_a_broken_worker_is_told_from_a_bad_request(
    status: int, content_type: str, body: bytes, found: type[Outcome] | None
) -> None:
    """The first can be made again, the second is the client's to see."""
    failure = failure_of(status, content_type, body)
    assert failure is None if found is None else isinstance(failure, found)


def test_a_piece_of_json_is_no_answer() -> None:
    """As far as its end shows; other types are not looked at."""
    assert mistake_in(JSON, b'{"a": [1, 2')
    assert mistake_in(JSON, b'{"a": 1}\n') is None
    assert mistake_in(JSON, b"[1]") is None
    assert mistake_in("text/plain", b"one") is None
