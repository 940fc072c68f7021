from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.store.joining import Broadcast
from gateway.store.merging import Failure, Merge, Told

A, B = "sha256:a", "sha256:b"
TOTALS = {A: 1000, B: 7}


def line(**row: Any) -> bytes:
    """Write a line as a worker does."""
    return json.dumps(row).encode() + b"\n"


def bar(digest: str, completed: int) -> bytes:
    """Write a line about a layer; zeros are left out."""
    row = {"status": f"pulling {digest}", "digest": digest, "total": TOTALS[digest]}
    return line(**row, **({"completed": completed} if completed else {}))


def rows(told: list[Told]) -> list[dict[str, Any]]:
    """Read what clients are told."""
    return [json.loads(each.line) for each in told]


def test_of_one_store_every_line_passes_as_it_is() -> None:
    """Down to its spaces."""
    merge = Merge(["w0"])
    lines = [line(status="pulling manifest"), bar(A, 0), bar(A, 10), line(status="something new", more=1)]
    assert [told.line for raw in lines for told in merge.line("w0", raw)] == lines


def test_success_is_withheld_until_everybody_can_see_it() -> None:
    """Whoever asked tells it."""
    merge = Merge(["w0"])
    assert merge.line("w0", line(status="success")) == []
    assert merge.verdict() is None


def test_a_bar_never_goes_back() -> None:
    """Another worker that goes on has less of it than the one that died."""
    merge = Merge(["w0"])
    merge.line("w0", bar(A, 500))
    assert rows(merge.line("w0", bar(A, 300)))[0]["completed"] == 500


def test_a_bar_of_several_stores_has_the_size_of_one_copy() -> None:
    """Clients keep the total that they were told first."""
    merge = Merge(["near", "far"])
    assert rows(merge.line("near", bar(A, 1000)))[0] | {"status": ""} == {
        "status": "",
        "digest": A,
        "total": 1000,
        "completed": 500,
    }
    assert rows(merge.line("far", bar(A, 100)))[0]["completed"] == 550


def test_a_status_is_told_once_when_the_last_store_has_come_to_it() -> None:
    """Not while another one still downloads; a store that is done has been everywhere."""
    merge = Merge(["near", "far"])
    assert merge.line("near", line(status="pulling manifest")) == []
    assert rows(merge.line("far", line(status="pulling manifest"))) == [{"status": "pulling manifest"}]
    assert merge.line("near", line(status="verifying")) == []
    assert rows(merge.line("far", line(status="success"))) == [{"status": "verifying"}]


def test_an_error_of_one_store_says_where_and_what_is_done() -> None:
    """A person must know what to do again."""
    merge = Merge(["near", "far"])
    merge.line("near", line(status="success"))
    merge.line("far", line(error="disk full"))
    assert merge.verdict() == Failure(500, "far: disk full (done on near)")


def test_an_error_of_all_stores_is_told_as_one_server_would() -> None:
    """Nobody is interested in how often a registry said no."""
    merge = Merge(["near", "far"])
    for store in merge.stores:
        merge.line(store, line(error="pull model manifest: file does not exist"))
    assert merge.verdict() == Failure(500, "pull model manifest: file does not exist")


def test_a_model_that_is_gone_already_was_deleted() -> None:
    """Only if it was nowhere, it is not found."""
    merge = Merge(["near", "far"], forgives={404})
    merge.failed("far", Failure(404, "model 'x' not found"))
    assert merge.verdict() == Failure(404, "model 'x' not found")
    merge.ended("near")
    assert merge.verdict() is None


def test_unreadable_progress_is_a_failure() -> None:
    """Whatever answers there is no Ollama."""
    merge = Merge(["w0"])
    merge.line("w0", b"<html>\n")
    assert merge.verdict() == Failure(500, "unreadable progress: <html>")


steps = st.one_of(
    st.tuples(st.just("bar"), st.sampled_from([A, B]), st.integers(0, 1000)),
    st.tuples(st.just("status"), st.sampled_from(["pulling manifest", "verifying", "writing"]), st.just(0)),
)
histories = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), steps), max_size=60)
endings = st.lists(st.sampled_from(["success", "error"]), min_size=3, max_size=3)


def raw(step: tuple[str, str, int]) -> bytes:
    """Write a step as a line."""
    kind, what, completed = step
    return bar(what, min(completed, TOTALS[what])) if kind == "bar" else line(status=what)


@given(histories, endings)
def test_whatever_the_stores_say_a_client_can_read_it(
    history: list[tuple[str, tuple[str, str, int]]], ends: list[str]
) -> None:
    """Bars grow to one total, statuses come once, success comes never: that is for whoever asked."""
    merge = Merge(["a", "b", "c"])
    told = [row for store, step in history for row in rows(merge.line(store, raw(step)))]
    for store, end in zip(merge.stores, ends, strict=True):
        told += rows(merge.line(store, line(status="success") if end == "success" else line(error="no")))
    for digest in (A, B):
        seen = [(row.get("completed", 0), row["total"]) for row in told if row.get("digest") == digest]
        assert all(earlier <= later for earlier, later in pairwise(seen))
        assert {total for _, total in seen} <= {TOTALS[digest]}
        assert all(completed <= total for completed, total in seen)
        if seen and set(ends) == {"success"}:
            assert seen[-1] == (TOTALS[digest], TOTALS[digest])
    statuses = [row["status"] for row in told if "digest" not in row]
    assert len(statuses) == len(set(statuses))
    said = {what for _, (kind, what, _) in history if kind == "status"}
    assert set(statuses) == said
    assert (merge.verdict() is None) is (set(ends) == {"success"})


# Joining ------------------------------------------------------------------------------


def test_who_joins_later_hears_first_how_far_it_is() -> None:
    """Every status, and each bar as it stands."""
    broadcast = Broadcast()
    for told in (Told("status x", b"x"), Told(A, b"a1"), Told(A, b"a2"), Told("status y", b"y")):
        broadcast.tell(told)
    assert broadcast.follow().take() == b"xa2y"


def test_who_keeps_up_hears_every_line() -> None:
    """Also the same one twice."""
    broadcast = Broadcast()
    follower = broadcast.follow()
    heard = []
    for text in (b"a1", b"a1", b"a2"):
        broadcast.tell(Told(A, text))
        heard.append(follower.take())
    assert heard == [b"a1", b"a1", b"a2"]


def test_for_who_reads_slowly_nothing_piles_up() -> None:
    """A thousand lines about one layer are worth one."""
    broadcast = Broadcast()
    follower = broadcast.follow()
    for number in range(1000):
        broadcast.tell(Told(A, b"%d" % number))
    assert follower.take() == b"999"


def test_one_who_leaves_does_not_disturb_the_others() -> None:
    """The last one to leave is told so."""
    broadcast = Broadcast()
    first, second = broadcast.follow(), broadcast.follow()
    assert broadcast.leave(first) is False
    broadcast.tell(Told(A, b"on"))
    assert second.take() == b"on"
    assert broadcast.leave(second) is True
