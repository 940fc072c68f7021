"""Requests that a real Ollama answered and that every engine's worker must answer in the same form.

A case is data: what to send, and which values of the answer are the same on every server. All others
are compared by type. `$count` and `$embed` stand for the models; a recording holds no more than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

GREEDY: Final = {"temperature": 0, "num_predict": 3}
HELLO: Final = [{"role": "user", "content": "hello"}]
HELD: Final = {"temperature": 0, "num_predict": 2, "stop": [" 5 x"]}
LONG: Final = {"temperature": 0, "num_predict": 100, "num_ctx": 512}
SCHEMA: Final = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request."""

    name: str
    path: str
    body: Any = None
    """A JSON value, or text that is sent as it is; None sends nothing."""
    method: str = "POST"
    same: tuple[str, ...] = ()
    """Keys whose values must be equal to the recorded ones, wherever they are."""


def _generate(name: str, same: str = "", **fields: Any) -> Case:
    body = {"model": "count", "prompt": "1 2 3", "stream": False, "options": GREEDY} | fields
    return Case(name=f"generate {name}", path="/api/generate", body=body, same=tuple(same.split()))


def _chat(name: str, same: str = "", **fields: Any) -> Case:
    body = {"model": "count", "messages": HELLO, "stream": False, "options": GREEDY} | fields
    return Case(name=f"chat {name}", path="/api/chat", body=body, same=tuple(same.split()))


def _v1_chat(name: str, same: str = "", **fields: Any) -> Case:
    body = {"model": "count", "messages": HELLO, "temperature": 0, "max_tokens": 3} | fields
    return Case(name=f"v1 chat {name}", path="/v1/chat/completions", body=body, same=tuple(same.split()))


def _v1_text(name: str, same: str = "", **fields: Any) -> Case:
    body = {"model": "count", "prompt": "x", "temperature": 0, "max_tokens": 3} | fields
    return Case(name=f"v1 text {name}", path="/v1/completions", body=body, same=tuple(same.split()))


def _embed(name: str, same: str = "", **fields: Any) -> Case:
    body = {"model": "embed", "input": "one two"} | fields
    return Case(name=f"embed {name}", path="/api/embed", body=body, same=tuple(same.split()))


def _messages(name: str, same: str = "", **fields: Any) -> Case:
    body = {"model": "count", "messages": HELLO, "temperature": 0, "max_tokens": 3} | fields
    return Case(name=f"messages {name}", path="/v1/messages", body=body, same=tuple(same.split()))


def _responses(name: str, same: str = "", **fields: Any) -> Case:
    body = {"model": "count", "input": "hello", "temperature": 0, "max_output_tokens": 3} | fields
    return Case(name=f"responses {name}", path="/v1/responses", body=body, same=tuple(same.split()))


def _said(*blocks: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(blocks)}]


def _raw(name: str, path: str, text: str) -> Case:
    return Case(name=f"body {name}", path=path, body=text, same=("error",))


def _get(path: str, same: str = "", method: str = "GET") -> Case:
    return Case(name=f"{method} {path}", path=path, method=method, same=tuple(same.split()))


LISTING: Final = (
    _get("/"),
    _get("/", method="HEAD"),
    _get("/api/version"),
    _get("/api/version", method="HEAD"),
    _get("/api/tags", "name model details"),
    _get("/api/tags", method="HEAD"),
    _get("/api/ps"),
    _get("/api/ps", method="HEAD"),
    _get("/api/ps", method="POST"),
    _get("/api/nothing"),
    _get("/v1/models", "id object owned_by"),
    _get("/v1/models", method="HEAD"),
    _get("/v1/models/count", "id object owned_by"),
    _get("/v1/models/none", "error"),
    _get("/v1/messages"),
    _get("/v1/responses"),
    _get("/api/chat"),
    _get("/nothing/at/all", method="POST"),
    _get("/", method="POST"),
    Case(name="show", path="/api/show", body={"model": "count"}, same=("details", "capabilities")),
    Case(name="show by name", path="/api/show", body={"name": "count"}, same=("details", "capabilities")),
    Case(name="show unknown", path="/api/show", body={"model": "none"}, same=("error",)),
    Case(name="show nothing", path="/api/show", body={}, same=("error",)),
    Case(name="show invalid", path="/api/show", body={"model": "a b"}, same=("error",)),
)

COUNTS: Final = "response done done_reason eval_count prompt_eval_count model"
TALK: Final = "content role done done_reason eval_count prompt_eval_count model"

GENERATE: Final = (
    _generate("whole", COUNTS + " context"),
    _generate("streamed", COUNTS + " context", stream=True),
    _generate("raw", COUNTS, raw=True),
    _generate("raw streamed", COUNTS, raw=True, stream=True),
    _generate("with a system text", COUNTS, system="be brief"),
    _generate("going on from a context", COUNTS, context=[53, 261, 262]),
    _generate("raw with a system text", "error", raw=True, system="x"),
    _generate("stop word", COUNTS, raw=True, options=GREEDY | {"num_predict": 20, "stop": ["7"]}),
    _generate("to its end", COUNTS, raw=True, prompt="1998", options={"temperature": 0}),
    _generate(
        "limit 0", "done_reason", raw=True, prompt="1998", options={"temperature": 0, "num_predict": 0}
    ),
    _generate("logprobs", "token bytes", raw=True, logprobs=True),
    _generate("top logprobs", "token bytes", raw=True, logprobs=True, top_logprobs=1),
    _generate("logprobs streamed", "token bytes", raw=True, logprobs=True, top_logprobs=1, stream=True),
    _generate("too many logprobs", "error", top_logprobs=21),
    _generate("load", COUNTS, prompt=""),
    _generate("load streamed", COUNTS, prompt="", stream=True),
    _generate("unknown model", "error", model="none"),
    _generate("no model", "error", model=""),
    _generate("invalid model", "error", model="a b"),
    _generate("model in capitals", COUNTS, model="COUNT"),
    _generate("full name", COUNTS, model="registry.ollama.ai/library/count:latest"),
    _generate("name with spaces", COUNTS, model=" count "),
    _generate("wrong option type", "error", options={"num_predict": "3"}),
    _generate("wrong stop type", "error", options={"stop": "x"}),
    _generate("wrong stop element", "error", options={"stop": [1]}),
    _generate("unknown option", COUNTS, options=GREEDY | {"nonsense": 1}),
    _generate("bad format", "error", format="xml"),
    _generate("json format", "", format="json", options=GREEDY | {"num_predict": 30}),
    _generate("empty format", COUNTS, format=""),
    _generate("keep_alive without a unit", "error", keep_alive="300"),
    _generate("keep_alive of a wrong type", "error", keep_alive=True),
    _generate("suffix", "error", suffix="x"),
    _generate("think", "error", think=True),
    _generate("think nonsense", "error", think="lots"),
    _generate("no think", COUNTS, think=False),
    _generate("too long, not to be cut", "error", raw=True, prompt="1 " * 2000, truncate=False),
    _generate("too long", "done_reason", raw=True, prompt="1 " * 2000),
    _generate("too long in a template", "done_reason", prompt="1 " * 2000),
    _generate("image on a text model", "done_reason", images=["aGVsbG8="]),
    _generate("a small num_ctx", COUNTS, raw=True, options=GREEDY | {"num_ctx": 64}),
    _generate("text held back for a stop word at the limit", COUNTS, raw=True, options=HELD),
    _generate("text held back, streamed", "done_reason", raw=True, options=HELD, stream=True),
    _generate("limit -1", COUNTS, raw=True, prompt="1998", options={"temperature": 0, "num_predict": -1}),
    _generate("limit -2", COUNTS, raw=True, prompt="1998", options={"temperature": 0, "num_predict": -2}),
    _generate("option in capitals", COUNTS, raw=True, options=GREEDY | {"NUM_PREDICT": 1}),
    _generate("repeat_last_n of the whole context", COUNTS, raw=True, options=GREEDY | {"repeat_last_n": -1}),
    _generate("no shift", "done_reason eval_count", raw=True, prompt="1 " * 500, shift=False, options=LONG),
    _generate("image that is no base64", "error", images=["!!"]),
    _generate("image of a wrong type", "error", images=[3]),
    _generate("images of a wrong type", "error", images="x"),
    _generate("think of a wrong type", "error", think=3),
    _generate("context of a wrong type", "error", context="x"),
    _generate("context with a fraction", "error", context=[1.5]),
    _generate("format of a list", "error", format=[]),
    _generate("keep_alive of another form", "error", keep_alive="soon"),
    _generate("load for ever", COUNTS, prompt="", keep_alive=-1),
    _generate("unload", COUNTS, prompt="", keep_alive=0),
    _generate("unload of what is not loaded", COUNTS, prompt="", keep_alive=0),
)

CHAT: Final = (
    _chat("whole", TALK),
    _chat("streamed", TALK, stream=True),
    _chat("with a system message", TALK, messages=[{"role": "system", "content": "x"}, *HELLO]),
    _chat("load", TALK, messages=[]),
    _chat("unknown model", "error", model="none"),
    _chat("no model", "error", model=""),
    _chat("invalid model", "error", model="a b"),
    _chat("tools on a model without", "error", tools=[{"type": "function", "function": {"name": "f"}}]),
    _chat("logprobs", "token bytes", logprobs=True, top_logprobs=1),
    _chat("schema", "", format=SCHEMA, options=GREEDY | {"num_predict": 40}),
    _chat("bad format", "error", format=3),
    _chat("think", "error", think=True),
    _chat("wrong option type", "error", options={"temperature": "hot"}),
    _chat("many messages, too long", "done_reason", messages=HELLO * 200),
    _chat("too long, not to be cut", "error", messages=HELLO * 200, truncate=False),
    _chat("message with a wrong type", "error", messages=[{"role": "user", "content": 3}]),
    _chat("stop word", TALK, options=GREEDY | {"num_predict": 20, "stop": ["7"]}),
    _chat("text held back at the limit", TALK, options=GREEDY | {"num_predict": 2, "stop": [" 2 x"]}),
    _chat("role in capitals", TALK, messages=[{"ROLE": "USER", "Content": "hello"}]),
    _chat("message without content", TALK, messages=[{"role": "user", "content": None}]),
    _chat("image that is no base64", "error", messages=[{**HELLO[0], "images": ["!!"]}]),
    _chat("image of a wrong type", "error", messages=[{**HELLO[0], "images": [3]}]),
    _chat("tool call of a wrong type", "error", messages=[{"role": "assistant", "tool_calls": ["x"]}]),
    _chat("tools of a wrong type", "error", tools={}),
    _chat("tool of a wrong type", "error", tools=["x"]),
    _chat("message of a wrong type", "error", messages=["x"]),
    _chat("unload", TALK, messages=[], keep_alive=0),
)

BODIES: Final = (
    _raw("missing", "/api/generate", ""),
    _raw("not JSON", "/api/generate", "hello"),
    _raw("cut short", "/api/generate", '{"model": "count"'),
    _raw("a list", "/api/generate", "[]"),
    _raw("of a wrong type", "/api/generate", '{"model": 3}'),
    _raw("prompt of a wrong type", "/api/generate", '{"model": "count", "prompt": ["x"]}'),
    _raw("options of a wrong type", "/api/generate", '{"model": "count", "options": 3}'),
    _raw("stream of a wrong type", "/api/chat", '{"model": "count", "stream": "yes"}'),
    _raw("top_logprobs of a wrong type", "/api/chat", '{"model": "count", "top_logprobs": 1.5}'),
    _raw("messages of a wrong type", "/api/chat", '{"model": "count", "messages": "x"}'),
    _raw("missing for chat", "/api/chat", ""),
    _raw("missing for embed", "/api/embed", ""),
    _raw("missing for v1", "/v1/chat/completions", ""),
    _raw("not JSON for v1", "/v1/chat/completions", "{"),
    _raw("not JSON for v1 embeddings", "/v1/embeddings", "}"),
    _raw("null", "/api/generate", "null"),
    _raw("null for chat", "/api/chat", "null"),
    _raw("without a colon", "/api/chat", '{"model" "count"}'),
    _raw("with a bare key", "/api/chat", "{model: 1}"),
    _raw("with a comma too many", "/api/chat", '{"model": "count",}'),
    _raw("with a bad literal", "/api/chat", '{"stream": nul}'),
    _raw("with NaN", "/api/chat", '{"model": NaN}'),
    _raw("with a bad escape", "/api/chat", r'{"model": "\x"}'),
    _raw("with a line in a text", "/api/chat", '{"model": "a\nb"}'),
    _raw("a list for v1", "/v1/chat/completions", "[]"),
    _raw("a list for v1 completions", "/v1/completions", "[]"),
    _raw("a list for v1 embeddings", "/v1/embeddings", "[]"),
    _raw("a list for responses", "/v1/responses", "[]"),
    _raw("a list for messages", "/v1/messages", "[]"),
    _raw("missing for responses", "/v1/responses", ""),
    _raw("missing for messages", "/v1/messages", ""),
    _raw("not JSON for messages", "/v1/messages", "{"),
    _raw("with the model twice", "/api/chat", '{"model": "count", "MODEL": "none"}'),
    Case(
        name="body with trailing data and capital keys",
        path="/api/generate",
        body='{"Model": "count", "PROMPT": "1998", "raw": true, "stream": false, "options": {"top_k": 1}} x',
        same=tuple(COUNTS.split()),
    ),
)

V1_SAME: Final = "content role finish_reason object usage model index system_fingerprint"
V1_TEXT_SAME: Final = "text finish_reason object usage model index system_fingerprint"

BAD_IMAGE: Final = {"url": "data:image/png;base64,!!"}
FAR_IMAGE: Final = {"url": "http://127.0.0.1/x.png"}
BAD_CALL: Final = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "x"}}

V1: Final = (
    _v1_chat("whole", V1_SAME),
    _v1_chat("streamed", V1_SAME, stream=True),
    _v1_chat("streamed with usage", V1_SAME, stream=True, stream_options={"include_usage": True}),
    _v1_chat(
        "text parts", V1_SAME, messages=[{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    ),
    _v1_chat("logprobs", "token bytes", logprobs=True, top_logprobs=1),
    _v1_chat("json object", "object", response_format={"type": "json_object"}),
    _v1_chat("stop", V1_SAME, stop="3", max_tokens=20),
    _v1_chat("unknown model", "error", model="none"),
    _v1_chat("no model", "error", model=""),
    _v1_chat("no messages", "error", messages=[]),
    _v1_chat("content of a wrong type", "error", messages=[{"role": "user", "content": 3}]),
    _v1_chat("tools on a model without", "error", tools=[{"type": "function", "function": {"name": "f"}}]),
    _v1_chat("nonsense effort", "error", reasoning_effort="lots"),
    _v1_chat("max_completion_tokens", V1_SAME, max_completion_tokens=1, n=3),
    _v1_chat("response_format of a wrong type", "error", response_format="x"),
    _v1_chat("stream_options of a wrong type", "error", stream_options="x"),
    _v1_chat("message of a wrong type", "error", messages=["x"]),
    _v1_chat(
        "image that is no base64", "error", messages=_said({"type": "image_url", "image_url": BAD_IMAGE})
    ),
    _v1_chat("image elsewhere", "error", messages=_said({"type": "image_url", "image_url": FAR_IMAGE})),
    _v1_chat(
        "arguments that are no JSON", "error", messages=[{"role": "assistant", "tool_calls": [BAD_CALL]}]
    ),
    _v1_text("no limit", V1_TEXT_SAME, prompt="x", max_tokens=0, stop="5"),
    _v1_text("suffix", "error", suffix="x"),
    _v1_text("logprobs of a wrong type", "error", logprobs=True),
    _v1_text("prompt of a wrong type", "error", prompt=["x"]),
    _v1_text("whole", V1_TEXT_SAME),
    _v1_text("streamed", V1_TEXT_SAME, stream=True),
    _v1_text("streamed with usage", V1_TEXT_SAME, stream=True, stream_options={"include_usage": True}),
    _v1_text("unknown model", "error", model="none"),
    _v1_text("no model", "error", model=""),
    _v1_text("wrong stop", "error", stop=[1]),
)

EMBED: Final = (
    _embed("one text", "model prompt_eval_count"),
    _embed("two texts", "model prompt_eval_count", input=["one", "two three"]),
    _embed("an empty text", "model embeddings", input=""),
    _embed("nothing", "model embeddings", input=None),
    _embed("wrong input", "error", input=3),
    _embed("wrong element", "error", input=[3]),
    _embed("fewer dimensions", "model", dimensions=8),
    _embed("too long, not to be cut", "error", input="one " * 1000, truncate=False),
    _embed("nested", "error", input=[["x"]]),
    _embed("no dimensions", "model prompt_eval_count", dimensions=0),
    _embed("more dimensions", "model prompt_eval_count", dimensions=1000),
    _embed("keep_alive without a unit", "error", keep_alive="300"),
    _embed("unknown model", "error", model="none"),
    _embed("no model", "error", model=""),
    _embed("of a chat model", "error", model="count"),
    Case(name="embeddings", path="/api/embeddings", body={"model": "embed", "prompt": "one"}),
    Case(name="embeddings of nothing", path="/api/embeddings", body={"model": "embed"}, same=("embedding",)),
    Case(name="embeddings unknown", path="/api/embeddings", body={"model": "none"}, same=("error",)),
    Case(name="embeddings no model", path="/api/embeddings", body={}, same=("error",)),
    Case(
        name="v1 embed",
        path="/v1/embeddings",
        body={"model": "embed", "input": "one"},
        same=("object", "usage"),
    ),
    Case(
        name="v1 embed base64",
        path="/v1/embeddings",
        body={"model": "embed", "input": ["one", "two"], "encoding_format": "base64"},
        same=("object", "usage"),
    ),
    Case(
        name="v1 embed fewer dimensions",
        path="/v1/embeddings",
        body={"model": "embed", "input": "one", "dimensions": 4, "encoding_format": "base64"},
        same=("object", "usage"),
    ),
    Case(
        name="v1 embed no input",
        path="/v1/embeddings",
        body={"model": "embed", "input": []},
        same=("error",),
    ),
    Case(
        name="v1 embed bad encoding",
        path="/v1/embeddings",
        body={"model": "embed", "input": "one", "encoding_format": "hex"},
        same=("error",),
    ),
    Case(name="v1 embed nothing", path="/v1/embeddings", body={"model": "embed"}, same=("error",)),
    Case(
        name="v1 embed unknown", path="/v1/embeddings", body={"model": "none", "input": "x"}, same=("error",)
    ),
    _generate("of an embedding model", "error", model="embed"),
    _chat("of an embedding model", "error", model="embed"),
)

IMAGE: Final = {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}
BAD_SOURCE: Final = IMAGE | {"data": "!!"}
BLOCKS: Final = "type role content delta content_block index stop_reason output_tokens model"
MESSAGES: Final = (
    _messages("whole", BLOCKS + " usage"),
    _messages("streamed", BLOCKS, stream=True),
    _messages("with a system text", BLOCKS + " usage", system="be brief"),
    _messages("with system blocks", BLOCKS + " usage", system=[{"type": "text", "text": "be brief"}]),
    _messages("in blocks", BLOCKS + " usage", messages=_said({"type": "text", "text": "hello"})),
    _messages("stop sequence", "role", max_tokens=20, stop_sequences=["3"]),
    _messages("thinking", BLOCKS, thinking={"type": "enabled", "budget_tokens": 1024}),
    _messages("nothing said", "role model", messages=_said()),
    _messages("image on a text model", "stop_reason", messages=_said({"type": "image", "source": IMAGE})),
    _messages("unknown model", "error", model="none"),
    _messages("unknown model streamed", "error", model="none", stream=True),
    _messages("no model", "error", model=""),
    _messages("no limit", "error", max_tokens=0),
    _messages("no messages", "error", messages=[]),
    _messages("limit of a wrong type", "error", max_tokens="x"),
    _messages("stop sequences of a wrong type", "error", stop_sequences="x"),
    _messages("stop sequence of a wrong type", "error", stop_sequences=[3]),
    _messages("thinking of a wrong type", "error", thinking="x"),
    _messages("messages of a wrong type", "error", messages="x"),
    _messages("content of a wrong type", "error", messages=[{"role": "user", "content": 3}]),
    _messages("block of a wrong type", "error", messages=_said("x")),
    _messages("image elsewhere", "error", messages=_said({"type": "image", "source": {"type": "url"}})),
    _messages("image without a source", "error", messages=_said({"type": "image"})),
    _messages("image that is no base64", "error", messages=_said({"type": "image", "source": BAD_SOURCE})),
    _messages("tool use without an id", "error", messages=_said({"type": "tool_use", "name": "f"})),
    _messages("tool use without a name", "error", messages=_said({"type": "tool_use", "id": "c"})),
    _messages("tools on a model without", "error", tools=[{"name": "f", "input_schema": {"type": "object"}}]),
    _messages("tool of a wrong type", "error", tools=["x"]),
    _messages("of an embedding model", "error", model="embed"),
)

RESPONSES: Final = (
    _responses("whole", "object status content usage error text"),
    _responses("streamed", "type sequence_number delta text part output_index", stream=True),
    _responses("instructions", "status content usage instructions", instructions="be brief"),
    _responses("items", "status content usage", input=HELLO),
    _responses("parts", "status content", input=_said({"type": "input_text", "text": "hello"})),
    _responses("nothing said", "status content usage", input=[]),
    _responses("settings told back", "top_p truncation background", top_p=0.5, truncation="auto"),
    _responses("schema", "format", text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}),
    _responses("unknown model", "error", model="none"),
    _responses("unknown model streamed", "error", model="none", stream=True),
    _responses("no model", "error", model=""),
    _responses("input of a wrong type", "error", input=3),
    _responses("item of no type", "error", input=[{"content": "x"}]),
    _responses("item of an unknown type", "error", input=[{"type": "x"}]),
    _responses("content of a wrong type", "error", input=[{"role": "user", "content": 3}]),
    _responses("part of an unknown type", "error", input=_said({"type": "x"})),
    _responses("file", "error", input=_said({"type": "input_file"})),
    _responses("image elsewhere", "error", input=_said({"type": "input_image", "image_url": "http://x"})),
    _responses("arguments that are no JSON", "error", input=[{"type": "function_call", "arguments": "x"}]),
    _responses("nonsense effort", "error", reasoning={"effort": "lots"}),
    _responses("think", "error", reasoning={"effort": "high"}),
    _responses("tools on a model without", "error", tools=[{"type": "function", "name": "f"}]),
    _responses("limit of a wrong type", "error", max_output_tokens="x"),
    _responses("text of a wrong type", "error", text="x"),
    _responses("of an embedding model", "error", model="embed"),
)
