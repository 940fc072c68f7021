from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random

import pytest

from gateway.relay.outcome import (
    MAX_BACKOFF_S,
    Broken,
    NoRoute,
    NotSent,
    Outcome,
    Refused,
    StreamFailedError,
    TimedOut,
    backoff_s,
    describe,
    may_retry,
    status_of,
)
from gateway.relay.stream import AsItComes, EndOfStream, WholeFrames, pump
from gateway.relay.upstream import error_text, failure_of

MARK = b'"done":true'


@pytest.mark.parametrize(
    ("outcome", "again", "status"),
    [
        (NotSent("refused"), True, 502),
        (Refused(503, "busy"), True, 503),
        (Broken(0, "reset"), True, 502),
        (Broken(1, "reset"), False, 502),
        (TimedOut("connect", 5), True, 504),
        (NoRoute("old"), True, 501),
        (TimedOut("first byte", 600), False, 504),
    ],
)
def test_only_what_reached_no_client_is_made_again(outcome: Outcome, again: bool, status: int) -> None:  # noqa: FBT001 -- parameters of the table
    """Each outcome has its rule, its status and a sentence."""
    assert may_retry(outcome, breaks=1) is again
    assert status_of(outcome) == status
    assert describe(outcome)


def test_request_that_broke_three_connections_is_not_made_again() -> None:
    """It may be what breaks them; refusals have no such bound."""
    assert may_retry(Broken(0, "reset"), breaks=2)
    assert not may_retry(Broken(0, "reset"), breaks=3)
    assert may_retry(Refused(503, "busy"), breaks=3)


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


def test_runner_that_died_is_told_from_a_bad_request() -> None:
    """The first can be made again, the second is the client's to see."""
    assert isinstance(failure_of(500, b'{"error":"llama runner process has terminated"}'), Broken)
    assert failure_of(500, b'{"error":"bad template"}') is None
    assert failure_of(404, b'{"error":"model not found"}') is None
    assert isinstance(failure_of(404, b"404 page not found"), NoRoute)
    assert failure_of(200, b"{}") is None
    assert isinstance(failure_of(200, b""), Broken)
