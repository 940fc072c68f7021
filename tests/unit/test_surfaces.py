from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.surfaces.ollama import OllamaSurface
from gateway.surfaces.openai import OpenAISurface
from gateway.surfaces.surface import BadRequestError, Facts

OLLAMA, OPENAI = OllamaSurface(), OpenAISurface()


def facts(route: str, **body: Any) -> Facts:
    """Parse a body with a model in it."""
    surface = OPENAI if route.startswith("/v1/") else OLLAMA
    return surface.parse(route, json.dumps({"model": "m", **body}).encode()).facts


@pytest.mark.parametrize(
    ("route", "given", "streamed"),
    [
        ("/api/generate", None, True),
        ("/api/chat", None, True),
        ("/api/chat", False, False),
        ("/api/embed", True, False),
        ("/v1/chat/completions", None, False),
        ("/v1/completions", True, True),
        ("/v1/embeddings", True, False),
    ],
)
def test_streaming_is_each_apis_own_default(route: str, given: bool | None, streamed: bool) -> None:  # noqa: FBT001 -- parameters of the table
    """Ollama streams unless told not to, OpenAI the other way round, embeddings never."""
    assert facts(route, **({} if given is None else {"stream": given})).stream is streamed


@pytest.mark.parametrize(
    ("value", "given", "seconds"),
    [(None, False, None), (0, True, 0.0), (-1, True, None), ("5m", True, 300.0), ("-1s", True, None)],
)
def test_keep_alive_is_read_as_ollama_does(value: object, given: bool, seconds: float | None) -> None:  # noqa: FBT001 -- parameters of the table
    """Numbers are seconds, texts need a unit, negative is for ever, null is not given."""
    read = facts("/api/chat", keep_alive=value)
    assert (read.keep_alive_given, read.keep_alive_s) == (given, seconds)


def test_body_goes_to_the_worker_byte_for_byte_when_nothing_is_taken_out() -> None:
    """What the client wrote, odd spaces and unknown keys included, is what the worker reads."""
    body = b'{ "model":"m",  "prompt" : "\\u00e4", "new": [1.0]}'
    assert OLLAMA.parse("/api/generate", body).body is body


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, "bool"), ([], "[]interface {}"), ({}, "map[string]interface {}")],
)
def test_keep_alive_of_another_type_is_refused_as_ollama_does(value: object, kind: str) -> None:
    """In the words of a real server."""
    with pytest.raises(BadRequestError) as refused:
        facts("/api/chat", keep_alive=value)
    assert refused.value.message == f"Unsupported type: '{kind}'"


def test_keep_alive_and_runner_options_do_not_reach_the_worker() -> None:
    """They are wishes to the scheduler; everything else stays."""
    body = b'{"model":"m","prompt":"\xc3\xa4","keep_alive":"5m","options":{"num_ctx":1,"seed":7}}'
    parsed = OLLAMA.parse("/api/generate", body)
    assert json.loads(parsed.body) == {"model": "m", "prompt": "ä", "options": {"seed": 7}}
    assert parsed.facts.runner_options == {"num_ctx": 1}


@pytest.mark.parametrize("body", [{"prompt": ""}, {}, {"prompt": None}])
def test_empty_prompt_with_keep_alive_zero_asks_for_unloading(body: dict[str, Any]) -> None:
    """That is how Ollama's clients unload a model; with a prompt it is an answer first."""
    request = {"model": "m", "keep_alive": 0}
    assert OLLAMA.parse("/api/generate", json.dumps({**request, **body}).encode()).unload_reply is not None
    spoken = {**request, "prompt": "x"}
    assert OLLAMA.parse("/api/generate", json.dumps(spoken).encode()).unload_reply is None


def test_errors_have_the_shape_of_their_api() -> None:
    """Clients' libraries find the message where they look for it."""
    assert json.loads(OLLAMA.error(404, "gone")) == {"error": "gone"}
    error = json.loads(OPENAI.error(404, "gone"))["error"]
    assert error == {"message": "gone", "type": "not_found_error", "param": None, "code": None}
    assert OPENAI.error_frame("x").startswith(b"data: {")
    assert OLLAMA.error_frame("x").endswith(b"}\n")


@pytest.mark.parametrize(
    ("route", "tail", "counts"),
    [
        ("/api/chat", b'"eval_count":12,"eval', (12, None)),
        ("/api/generate", b'"prompt_eval_count":7,"eval_count":3}\n', (3, 7)),
        ("/api/chat", b"", (None, None)),
        ("/api/chat", b'"content":"\\"eval_count\\":9","done":true}', (None, None)),
        ("/api/embed", b'],"total_duration":5,"prompt_eval_count":7}', (0, 7)),
        (
            "/v1/chat/completions",
            b'"usage":{"prompt_tokens":5,"completion_tokens": 3}}\n\ndata: [DONE]',
            (3, 5),
        ),
        ("/v1/chat/completions", b"data: [DONE]", (None, None)),
        ("/v1/embeddings", b'"usage":{"prompt_tokens":5,"total_tokens":5}}', (0, 5)),
    ],
)
def test_tokens_are_read_from_the_last_frame(
    route: str, tail: bytes, counts: tuple[int | None, int | None]
) -> None:
    """Those of the answer and of the prompt; none where the frame has none, and none of an embedding."""
    surface = OPENAI if route.startswith("/v1/") else OLLAMA
    assert surface.counts(route, tail, 0) == counts


def test_tokens_of_a_stream_that_tells_none_are_its_frames() -> None:
    """OpenAI's clients seldom ask for the usage; a worker sends a frame a token, and two more at the end."""
    assert OPENAI.counts("/v1/chat/completions", b"data: [DONE]\n\n", 7) == (5, None)
    assert OPENAI.counts("/v1/chat/completions", b'"usage":{"completion_tokens":4}', 7) == (4, None)


@pytest.mark.parametrize("key", ["Options", "OPTIONS", "option\u017f"])
def test_keys_in_any_case_hide_nothing(key: str) -> None:
    """Ollama reads them all as `options`, so what they hold is taken out all the same."""
    parsed = OLLAMA.parse("/api/chat", json.dumps({"Model": "m", key: {"num_ctx": 9, "seed": 1}}).encode())
    assert parsed.facts.runner_options == {"num_ctx": 9}
    assert json.loads(parsed.body) == {"model": "m", "options": {"seed": 1}}


def test_text_that_is_no_unicode_passes() -> None:
    """JSON may hold half of a surrogate pair; it reaches the worker as it came."""
    parsed = OLLAMA.parse("/api/generate", b'{"model":"m","prompt":"\\ud800","keep_alive":1}')
    assert json.loads(parsed.body)["prompt"] == "\ud800"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "^(missing request body|EOF)$"),
        (b"{", "^unexpected EOF$"),
        (b"3", "^json: cannot unmarshal number into Go value of type (api|openai).Chat.*Request$"),
        (b"{}", "model is required"),
        (b'{"model":null}', "model is required"),
        (b'{"model":"a b"}', "invalid model name"),
        (
            b'{"model":["m"]}',
            "cannot unmarshal array into Go struct field Chat.*Request.model of type string",
        ),
        (b'{"model":"m","stream":1}', "cannot unmarshal number into .*stream of type bool"),
    ],
)
def test_bad_bodies_are_refused_with_what_is_wrong(body: bytes, words: str) -> None:
    """The same sentences on every surface."""
    for surface, route in ((OLLAMA, "/api/chat"), (OPENAI, "/v1/chat/completions")):
        with pytest.raises(BadRequestError, match=words):
            surface.parse(route, body)


@pytest.mark.parametrize("route", ["/api/chat", "/v1/chat/completions"])
def test_what_open_webui_asks_by_itself_is_known_as_background(route: str) -> None:
    """By how its prompts begin, as a text or as parts; a person who quotes one is not meant."""
    task = "### Task:\nGenerate 1-3 broad tags"
    for content in (task, [{"type": "text", "text": task}]):
        assert facts(route, messages=[{"role": "user", "content": content}]).background
    for other in (f"What does {task!r} mean?", "", None):
        assert not facts(route, messages=[{"role": "user", "content": other}]).background
    assert not facts(route, messages=[{"role": "system", "content": task}]).background
    assert not facts(route, messages=[]).background
