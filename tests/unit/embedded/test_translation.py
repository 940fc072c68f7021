"""Bodies, options, prompts, events and frames: what is turned into what."""

from __future__ import annotations

import base64
import json
import struct
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.contract.names import ModelName
from supervisor.engines.embedded import bodies, openai, structs
from supervisor.engines.embedded.completion import cut
from supervisor.engines.embedded.embedding import normalised, shortened
from supervisor.engines.embedded.events import End, Piece, Reader
from supervisor.engines.embedded.failures import ApiError
from supervisor.engines.embedded.frames import Figures, Framer, whole
from supervisor.engines.embedded.options import check_options, sampling
from supervisor.engines.embedded.prompts import Conversation, Setting, chat_job, generate_job
from supervisor.engines.embedded.runners import engine_reason
from supervisor.engines.embedded.sse import SseParser
from supervisor.models.facts import ModelFacts
from supervisor.models.model import FileId, ModelFile

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
TIMINGS = {"prompt_n": 2, "cache_n": 3, "prompt_ms": 1.5, "predicted_n": 4, "predicted_ms": 2.0}


def setting(of: ModelFacts) -> Setting:
    """Return a model with these facts and a day."""
    model = ModelFile(ModelName.parse("m"), FileId("/m.gguf", 1, 1), of)
    return Setting(model=model, context_length=8, today=date(2025, 2, 1))


def facts(template: str = "{{ messages }}") -> ModelFacts:
    """Return a model with 100 tokens and a chat template."""
    return ModelFacts("llama", 1, "F16", 4096, 100, template, embeds=False, info={})


@given(st.lists(st.integers(min_value=1, max_value=7), max_size=40))
def test_events_do_not_depend_on_how_the_stream_is_cut(sizes: list[int]) -> None:
    """A chunk may end anywhere, also inside a character."""
    stream = 'data: {"content":"ä"}\n\n: ping\n\ndata: {"content":"2"}\r\n\ndata: [DONE]\n\n'.encode()
    parser, found, at = SseParser(), list[Any](), 0
    for size in (*sizes, len(stream)):
        found.extend(parser.feed(stream[at : at + size]))
        at += size
    assert found == [{"content": "ä"}, {"content": "2"}]


def test_an_error_inside_a_stream_is_an_error() -> None:
    """In both forms that llama.cpp has for it."""
    assert list(SseParser().feed(b'error: {"code":500,"message":"m"}\n')) == [
        {"error": {"code": 500, "message": "m"}}
    ]
    assert list(SseParser().feed(b'data: {"error":{"message":"m"}}\n')) == [{"error": {"message": "m"}}]


def test_progress_of_the_prompt_is_no_part_of_the_answer() -> None:
    """Only text, thinking and logprobs are."""
    reader = Reader()
    assert list(reader.read({"content": "", "stop": False, "prompt_progress": {}})) == []
    assert list(reader.read({"content": " 4", "stop": False})) == [Piece(content=" 4")]


def test_tool_calls_are_put_together_from_their_parts() -> None:
    """Name and arguments come in pieces; the call is whole at the end."""
    reader = Reader()

    def delta(**function: str) -> dict[str, Any]:
        call = {"index": 0, "id": "c1", "function": function}
        return {"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": None}]}

    for part in (delta(name="f", arguments=""), delta(arguments='{"x"'), delta(arguments=":1}")):
        assert list(reader.read(part)) == []
    (end,) = reader.read({"choices": [{"delta": {}, "finish_reason": "tool_calls"}], "timings": TIMINGS})
    assert isinstance(end, End)
    assert end.reason == "stop"
    assert end.tool_calls == ({"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}},)


def test_a_prompt_counts_whole_whether_it_was_cached_or_not() -> None:
    """Ollama tells the length of the prompt, not what was computed of it."""
    (end,) = Reader().read({"content": "", "stop": True, "stop_type": "limit", "timings": TIMINGS})
    assert end == End(
        reason="length", prompt_tokens=5, prompt_ns=1_500_000, answer_tokens=4, answer_ns=2_000_000
    )


def test_frames_put_together_are_the_answer() -> None:
    """Texts and thinking are joined, the last frame's figures stay."""
    framer = Framer(model="m", chat=True)
    end = End(reason="stop", prompt_tokens=1, prompt_ns=0, answer_tokens=2, answer_ns=3)
    frames = [
        framer.piece(Piece(thinking="hm"), NOON),
        framer.piece(Piece(content="a"), NOON),
        framer.piece(Piece(content="b"), NOON),
        framer.end(end, Figures(total_ns=9, load_ns=0), NOON),
    ]
    answer = whole(frames)
    assert answer["message"] == {"role": "assistant", "content": "ab", "thinking": "hm"}
    assert answer["eval_count"] == 2
    assert "load_duration" not in answer
    assert answer["created_at"] == "2030-01-01T12:00:00Z"


def test_a_stream_of_tool_calls_ends_with_their_reason() -> None:
    """OpenAI's clients wait for `tool_calls`."""
    rendering = openai.ChatRendering(id="x", created=0, include_usage=False)
    call = {"id": "c", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}}
    end = End(reason="stop", prompt_tokens=1, prompt_ns=0, answer_tokens=2, answer_ns=3, tool_calls=(call,))
    framer = Framer(model="m", chat=True)
    calls = rendering.chunk(framer.calls(end, NOON))
    last = rendering.chunk(framer.end(end, Figures(total_ns=1, load_ns=1), NOON))
    told = json.loads(calls.removeprefix(b"data: "))["choices"][0]["delta"]["tool_calls"][0]
    assert told["function"] == {"name": "f", "arguments": '{"x":1}'}
    assert b'"finish_reason":"tool_calls"' in last
    assert last.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "missing request body"),
        (
            '{"prompt": 3}',
            "json: cannot unmarshal number into Go struct field GenerateRequest.prompt of type string",
        ),
        ("[]", "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
        ("[" * 100_000, "exceeded max depth"),
    ],
)
def test_a_bad_body_is_refused_in_the_words_of_go(text: str, error: str) -> None:
    """Clients and their tests know these texts."""
    with pytest.raises(ApiError) as refused:
        bodies.decode(text.encode(), structs.GENERATE)
    assert (refused.value.status, refused.value.text) == (400, error)


def test_keys_match_in_any_case_and_the_last_one_wins() -> None:
    """Go's decoder does so."""
    body = bodies.decode(b'{"MODEL": "a", "model": "b", "Stream": null} trailing', structs.GENERATE)
    assert body == {"model": "b"}


def test_an_answer_without_a_limit_ends_after_ten_contexts() -> None:
    """0, -1 and -2 all mean: no limit of the client's own."""
    for limit in (0, -1, -2, 10**9):
        assert sampling(check_options({"num_predict": limit}), context_length=8)["n_predict"] == 80
    assert sampling({"num_predict": 5}, context_length=8)["n_predict"] == 5


def test_ollamas_defaults_are_used_and_not_llama_cpps() -> None:
    """They differ in top_p, min_p and the repeat penalty."""
    parameters = sampling({}, context_length=8)
    assert (parameters["top_p"], parameters["min_p"], parameters["repeat_penalty"]) == (0.9, 0.0, 1.1)
    assert "seed" not in parameters


def test_a_tool_call_of_the_conversation_keeps_its_arguments() -> None:
    """Native arguments are an object, llama.cpp's templates read text."""
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    body = {"messages": [{"role": "assistant", "tool_calls": [call]}]}
    _, sent = chat_job(body, {}, setting(facts())).request()
    assert sent["messages"][0]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x": 1}'}


def test_a_model_without_a_template_continues_the_prompt() -> None:
    """There is nothing to apply; Ollama's template for such a model is the prompt alone."""
    path, sent = generate_job({"prompt": "x"}, {}, setting(facts(""))).request()
    assert (path, sent["prompt"]) == ("/completion", "x")


def test_the_oldest_messages_go_but_never_the_systems() -> None:
    """What the system said stays in front."""
    roles = ("system", "user", "assistant", "user")
    talk = Conversation(messages=tuple({"role": role, "content": ""} for role in roles), template_values={})
    assert [m["role"] for m in talk.without_oldest(3).messages] == ["system", "user"]


@given(
    st.lists(st.integers(), min_size=20, max_size=60).map(tuple),
    st.integers(min_value=-1, max_value=30),
    st.integers(min_value=2, max_value=20),
)
def test_a_cut_prompt_fits_and_ends_as_it_did(tokens: tuple[int, ...], keep: int, limit: int) -> None:
    """The start that is to be kept and the end stay; the middle goes."""
    short = cut(tokens, keep, limit)
    assert len(short) == limit
    assert short[-1] == tokens[-1]
    kept = min(keep, limit - 1) if keep >= 0 else limit - 1
    assert short[:kept] == tokens[:kept]


def test_a_cut_text_keeps_the_marks_around_it() -> None:
    """Models that embed were trained with them."""
    assert shortened([101, 1, 2, 3, 4, 102], [1, 2, 3, 4], 4) == (101, 1, 2, 102)
    assert shortened([1, 2, 3, 4], [1, 2, 3, 4], 3) == (1, 2, 3)


def test_a_normalised_vector_has_length_one() -> None:
    """A vector of zeros stays one."""
    assert normalised([3.0, 4.0]) == [0.6, 0.8]
    assert normalised([0.0, 0.0]) == [0.0, 0.0]
    with pytest.raises(ApiError, match="NaN"):
        normalised([float("nan")])


def test_base64_holds_the_floats_of_the_vector() -> None:
    """Little-endian 32-bit, as OpenAI's client unpacks them."""
    told = openai.embedding_list("m", {"embeddings": [[0.5, -2.0]]}, "base64")
    assert struct.unpack("<2f", base64.b64decode(told["data"][0]["embedding"])) == (0.5, -2.0)


def test_the_reason_of_a_failed_load_is_the_engines() -> None:
    """Its log says more than its exception."""
    lines = (
        "0.00.001 I loading",
        "0.00.002 E llama_model_load: error loading model: unknown model architecture: 'x'",
        "0.00.003 E llama_model_load_from_file_impl: failed to load model",
    )
    assert engine_reason(lines) == "error loading model: unknown model architecture: 'x'"
    assert engine_reason(()) == ""
