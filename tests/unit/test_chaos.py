"""The rules of `scripts/bench chaos`: what is asked, what breaks when, and how what clients saw is judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest

from scripts.figures.chaos.answers import Reader
from scripts.figures.chaos.asks import Ask, Call, Client, asks, body
from scripts.figures.chaos.plan import Kind, schedule
from scripts.figures.chaos.remains import second_copies
from scripts.figures.chaos.timeline import served, without
from scripts.figures.chaos.troubles import HTTP_OF_OPENAI, note_trouble
from scripts.figures.chaos.verdicts import Circumstances, Seen, Span, Trouble, Verdict, verdict

WORKERS = ("cpu0", "cpu1")
ASK = Ask(id="r", client=Client.RAW, call=Call.CHAT, model="one", words=3, streamed=True)
KNOWN = Circumstances(deadline_s=90.0, served=[Span(0.0, 1000.0)], vectors={"horse": [0.6, 0.8]})


def seen(**fields: Any) -> Seen:
    """Return what a client saw of `ASK`, unless fields say otherwise."""
    usual: dict[str, Any] = {"ask": ASK, "started_at": 100.0, "ended_at": 101.0}
    return Seen(**usual | fields)


def test_a_seed_gives_the_same_requests_and_faults_each_time() -> None:
    """So that what was found can be found again."""
    assert list(asks(7, 300)) == list(asks(7, 300)) != list(asks(8, 300))
    plans = [
        schedule(seed, requests=10_000, faults=20, workers=WORKERS, kinds=list(Kind)) for seed in (7, 7, 8)
    ]
    assert plans[0] == plans[1] != plans[2]


def test_all_clients_and_routes_are_in_the_mix() -> None:
    """Streamed and not, on fresh connections and kept ones, and some leave early."""
    mix = list(asks(1, 2000))
    assert {(ask.client, ask.call) for ask in mix} >= {(Client.RAW, call) for call in Call}
    assert {ask.client for ask in mix} == set(Client)
    assert {(ask.streamed, ask.fresh) for ask in mix} == {
        (a, b) for a in (True, False) for b in (True, False)
    }
    assert any(ask.leaves_after_words for ask in mix)
    assert any(ask.leaves_after_s is not None for ask in mix)


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_of_fault_comes_and_nobody_crashes_into_quarantine(seed: int) -> None:
    """Also not the gateway; faults come in order, within the requests."""
    plan = schedule(seed, requests=10_000, faults=20, workers=WORKERS, kinds=list(Kind))
    assert {fault.kind for fault in plan} == set(Kind)
    assert [fault.at for fault in plan] == sorted(fault.at for fault in plan)
    assert 0 < plan[0].at <= plan[-1].at < 10_000
    crashes = Counter(
        fault.worker
        for fault in plan
        if fault.kind in (Kind.KILL_WORKER, Kind.PAUSE_WORKER, Kind.HANG_WORKER)
    )
    assert max(crashes.values()) <= 4


def test_what_this_corral_cannot_do_is_left_out() -> None:
    """And where there is no room for all, a killed worker and a killed gateway are among the faults."""
    kinds = [kind for kind in Kind if kind is not Kind.RELOAD]
    plan = schedule(3, requests=600, faults=6, workers=WORKERS, kinds=kinds)
    assert Kind.RELOAD not in {fault.kind for fault in plan}
    assert {Kind.KILL_WORKER, Kind.KILL_GATEWAY} <= {fault.kind for fault in plan}


VERDICTS: dict[str, tuple[dict[str, Any], Verdict]] = {
    "whole": ({"text": "1 2 3", "whole": True}, Verdict.WHOLE),
    "a word is missing": ({"text": "1 3", "whole": True}, Verdict.SILENT),
    "a word comes twice": ({"text": "1 2 2 3", "whole": True}, Verdict.SILENT),
    "ends without its last frame": ({"text": "1 2 3"}, Verdict.SILENT),
    "left": ({"text": "1", "left": True}, Verdict.LEFT),
    "left with wrong words": ({"text": "2 3", "left": True}, Verdict.SILENT),
    "broken by a frame": (
        {"first_at": 100.5, "text": "1 2", "trouble": Trouble.FRAME, "error": "broke off"},
        Verdict.TOLD,
    ),
    "cut in the middle": ({"first_at": 100.5, "text": "1", "trouble": Trouble.RESET}, Verdict.TOLD),
    "told, but a word is missing": (
        {"first_at": 100.5, "text": "1 3 4", "trouble": Trouble.FRAME},
        Verdict.SILENT,
    ),
    "reset before an answer": ({"trouble": Trouble.RESET}, Verdict.REFUSED),
    "no connection": ({"trouble": Trouble.CONNECT}, Verdict.REFUSED),
    "503": ({"trouble": Trouble.STATUS, "status": 503}, Verdict.REFUSED),
    "502": ({"trouble": Trouble.STATUS, "status": 502}, Verdict.FAILED),
    "404": ({"trouble": Trouble.STATUS, "status": 404}, Verdict.FAILED),
    "no end": ({"first_at": 100.5, "text": "1", "trouble": Trouble.TIMEOUT}, Verdict.FAILED),
    "not understood": ({"trouble": Trouble.NONSENSE}, Verdict.SILENT),
}


@pytest.mark.parametrize(("fields", "expected"), VERDICTS.values(), ids=VERDICTS)
def test_what_a_client_saw_has_one_verdict(fields: dict[str, Any], expected: Verdict) -> None:
    """The table is the vocabulary of the figures."""
    assert verdict(seen(**fields), KNOWN) is expected


def test_whom_the_killed_gateway_held_was_cut_and_who_came_after_was_refused() -> None:
    """Only who had asked before it was gone can have been held by it."""
    known = replace(KNOWN, gateway_deaths=[Span(100.5, 100.6)])
    cut = seen(trouble=Trouble.RESET)
    assert verdict(cut, known) is Verdict.CUT_WITH_GATEWAY
    assert verdict(replace(cut, started_at=100.7), known) is Verdict.REFUSED
    assert verdict(replace(cut, ended_at=100.4), known) is Verdict.REFUSED


def test_no_worker_inside_the_deadline_excuses_a_refusal_but_no_closed_door() -> None:
    """A connection is to wait even where nobody can serve."""
    known = replace(KNOWN, served=[Span(0.0, 99.0), Span(191.0, 200.0)])
    assert verdict(seen(trouble=Trouble.STATUS, status=503), known) is Verdict.UNSERVABLE
    assert verdict(seen(trouble=Trouble.CONNECT), known) is Verdict.REFUSED
    back = replace(KNOWN, served=[Span(189.0, 200.0)])
    assert verdict(seen(trouble=Trouble.STATUS, status=503), back) is Verdict.REFUSED


def test_a_deleted_model_may_be_unknown() -> None:
    """To those that asked for it meanwhile, and to nobody else."""
    gone = seen(ask=replace(ASK, may_be_gone=True), trouble=Trouble.STATUS, status=404)
    assert verdict(gone, KNOWN) is Verdict.GONE


def test_vectors_are_compared() -> None:
    """But for rounding."""
    embed = Ask(id="e", client=Client.RAW, call=Call.EMBED, model="embed", text="horse")
    assert verdict(seen(ask=embed, vector=[0.6, 0.8000001], whole=True), KNOWN) is Verdict.WHOLE
    assert verdict(seen(ask=embed, vector=[0.61, 0.79], whole=True), KNOWN) is Verdict.SILENT


STREAMS: dict[Call, list[bytes]] = {
    Call.CHAT: [
        b'{"message":{"content":"1"},"done":false}\n{"mess',
        b'age":{"content":" 2"},"done":false}\n{"message":{"content":""},"done":true}\n',
    ],
    Call.GENERATE: [b'{"response":"1 2","done":false}\n{"response":"","done":true}\n'],
    Call.CHAT_COMPLETION: [
        b'data: {"choices":[{"delta":{"content":"1 2"}}]}\n\ndata: {"choices":[]}\n',
        b"\ndata: [DONE]\n\n",
    ],
    Call.COMPLETION: [b'data: {"choices":[{"text":"1 2"}]}\n\ndata: [DONE]\n\n'],
    Call.MESSAGES: [
        b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"1 2"}}\n\n',
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    ],
}
ERRORS: dict[Call, bytes] = {
    Call.CHAT: b'{"error":"broke off"}\n',
    Call.CHAT_COMPLETION: b'data: {"error":{"message":"broke off"}}\n\n',
    Call.MESSAGES: b'event: error\ndata: {"type":"error","error":{"message":"broke off"}}\n\n',
}


@pytest.mark.parametrize("call", STREAMS)
def test_streams_are_read_to_their_last_frame(call: Call) -> None:
    """However they are cut into pieces; without the last one they are not whole."""
    reader = Reader(replace(ASK, call=call))
    for piece in STREAMS[call]:
        assert not reader.answer.whole
        reader.feed(piece)
    assert (reader.answer.text, reader.answer.whole) == ("1 2", True)


@pytest.mark.parametrize("call", ERRORS)
def test_error_frames_are_heard(call: Call) -> None:
    """In the form of each API."""
    reader = Reader(replace(ASK, call=call))
    reader.feed(ERRORS[call])
    assert (reader.answer.error, reader.answer.whole) == ("broke off", False)


def test_a_body_asks_for_as_many_words_as_are_expected() -> None:
    """And goes on from the number that its prompt ends with."""
    ask = replace(ASK, call=Call.GENERATE, begin=41, words=2)
    assert body(ask)["prompt"].endswith(" 41")
    assert body(ask)["options"]["num_predict"] == 2
    assert ask.expected() == ["42", "43"]


def test_what_a_library_raises_is_traced_to_its_cause() -> None:
    """Its own class says no more than that something is wrong."""
    http = HTTP_OF_OPENAI
    request = http.Request("POST", "http://127.0.0.1/")
    for cause, expected in (
        (http.ConnectError("refused"), Trouble.CONNECT),
        (http.RemoteProtocolError("closed"), Trouble.RESET),
        (http.ReadTimeout("late"), Trouble.TIMEOUT),
    ):
        error = openai.APIConnectionError(request=request)
        error.__cause__ = cause
        noted = seen()
        note_trouble(noted, error)
        assert noted.trouble is expected


def log_of_workers() -> Iterator[dict[str, Any]]:
    """Yield the lines of a worker that came, went and came back."""
    for second, event in ((10, "ready"), (20, "backoff"), (22, "starting"), (25, "ready")):
        stamp = f"1970-01-01T00:00:{second}.000000Z"
        yield {"worker": "cpu0", "was": "?", "event": event, "timestamp": stamp}
    yield {"worker": "@gateway", "was": "?", "event": "ready", "timestamp": "1970-01-01T00:00:00Z"}


def test_workers_serve_while_they_are_ready_and_not_stopped() -> None:
    """The gateway is none."""
    spans = served(log_of_workers(), [("cpu0", Span(12.0, 14.0)), ("cpu1", Span(0.0, 99.0))], until=30.0)
    assert spans == [Span(10.0, 12.0), Span(14.0, 20.0), Span(25.0, 30.0)]
    assert without(Span(1.0, 2.0), [Span(0.0, 3.0)]) == []


def test_a_load_of_what_is_being_loaded_there_is_a_second_copy() -> None:
    """One that comes after the first ended is none, nor one of the next gateway or behind missing lines."""
    first = {"event": "load", "load": 1, "worker": "cpu0#1", "model": "one"}
    again = {**first, "load": 2}
    assert second_copies([first, again]) == ["cpu0#1 loaded one twice at once (load 2)"]
    assert not second_copies([first, {"event": "loaded", "load": 1}, again])
    assert not second_copies([first, {"event": "gateway serves"}, again])
    assert not second_copies([first, {"event": "3 log lines could not be written"}, again])
    assert not second_copies([first, {**again, "worker": "cpu1#1"}])
