"""Requests that a real Ollama answered and that every engine's worker must answer in the same form.

A case is data: what to send, and which values of the answer are the same on every server. All others
are compared by type. `$count` and `$embed` stand for the models; a recording holds no more than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

GREEDY: Final = {"temperature": 0, "num_predict": 3}
HELLO: Final = [{"role": "user", "content": "hello"}]
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
    _generate("unload", COUNTS, prompt="", keep_alive=0),
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
    Case(
        name="body with trailing data and capital keys",
        path="/api/generate",
        body='{"Model": "count", "PROMPT": "1998", "raw": true, "stream": false, "options": {"top_k": 1}} x',
        same=tuple(COUNTS.split()),
    ),
)

V1_SAME: Final = "content role finish_reason object usage model index system_fingerprint"
V1_TEXT_SAME: Final = "text finish_reason object usage model index system_fingerprint"

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

GROUPS: Final = {
    "listing": LISTING,
    "generate": GENERATE,
    "chat": CHAT,
    "bodies": BODIES,
    "v1": V1,
    "embed": EMBED,
}
