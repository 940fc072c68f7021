"""What every client API must offer to the relay, and what a request tells the scheduler.

Decides the vocabulary, and how bodies are read: as Go's encoding/json reads them, which is how Ollama does.
Keys match in any case, the last of two equal keys wins, null is as if absent, what follows the object is
ignored, and bytes that are no UTF-8 become U+FFFD. A worker that read a body otherwise than the gateway could
be made to do what the gateway believes to have taken out; so a body that can be read in two ways is written
anew. Knows no HTTP server, no worker and no engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, NoReturn, Protocol

from gateway.surfaces.harms import HARMLESS, Harm, harm_of
from gateway.surfaces.identity import Caller, session_of, tenant_of
from gateway.surfaces.naming import name_mistake, no_body, no_object, wrong_type
from gateway.surfaces.prompts import is_task, size_of
from supervisor.contract.go_json import syntax_error

NOBODY: Final = Caller()
MOST_VALUES: Final = 1_000_000
"""Of one body: while it is read nobody is served, and a value takes up to thirty times its bytes."""
MAX_DEPTH: Final = 500
"""Of objects and lists inside each other. Ollama takes ten thousand, and dies of far fewer in a `format`."""
_EXPLAINED_CHARACTERS: Final = 100_000
"""What is wrong in a longer text is told in fewer words: it is looked for letter by letter."""
_WITH_LONG_S: Final = str.maketrans({"\u017f": "s"})
"""Go folds this letter to `s`; `lower` does not."""
_DIGITS: Final = re.compile(rb"\s*(\d{1,18})")

RUNNER_OPTIONS: Final = (
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
    "draft_num_predict",
    "shift",
)
"""Options that make Ollama reload a runner. A request's are taken out of its body: what becomes of them is
the gateway's to decide and to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that scheduling and relaying may know of a request."""

    model: str
    """As the client wrote it."""
    stream: bool
    keep_alive_s: float | None = None
    keep_alive_given: bool = False
    """Whether the client said how long the model is to stay; then `keep_alive_s` None is for ever."""
    runner_options: Mapping[str, Any] = field(default_factory=dict)
    """Those of `RUNNER_OPTIONS` that were asked for."""
    tenant: str = ""
    """Whose it is."""
    session: str = ""
    """The conversation that it belongs to; empty is none."""
    prompt_tokens: int = 0
    """Estimated from the length of its texts."""
    background: bool = False
    """Nobody waits for the answer at a screen."""
    longest_prompt_tokens: int = 0
    """The same of the longest text that has to fit into the context as a whole."""
    harm: Harm = HARMLESS
    """What some workers are known to die of."""
    computes: bool = True
    """It generates or embeds; how long a mere count of tokens takes tells nothing of a model's speed."""


class Counts(NamedTuple):
    """Tokens as the worker counted them, or sent them; None where neither can be told."""

    output: int | None = None
    prompt: int | None = None


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request's facts, and the body that goes to the worker."""

    facts: Facts
    body: bytes
    unload_reply: Mapping[str, Any] | None = None
    """Set when all that is asked is that the model leave memory: the answer, without `created_at`."""
    content_type: str = "application/json"
    """Of the body."""
    model_at: tuple[int, int] | None = None
    """Where the model's name stands in a body that is not JSON: its first byte, and the one behind it."""


class BadRequestError(Exception):
    """The request cannot be served as it is; the text says what is wrong."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class Surface(Protocol):
    """One client API."""

    name: str
    routes: frozenset[str]
    """Paths of POST requests that need a slot; a worker knows them under the same path."""
    carries_context: bool
    """Whether its requests can say with which context a model is to run."""
    id_header: str
    """In which header its clients look for the request's id."""

    def parse(self, route: str, body: bytes, caller: Caller = NOBODY) -> ParsedRequest:
        """Read a request.

        Raises:
            BadRequestError: not JSON, no model, or a field of the wrong type.
        """

    def error(self, status: int, message: str, *, request_id: str = "") -> bytes:
        """Return an error body in the client's own shape; `request_id` is for those that name it."""

    def error_frame(self, message: str, frames: int = 0) -> bytes:
        """Return what tells a client in the middle of a stream that it failed, after so many frames."""

    def final_marks(self, route: str) -> tuple[bytes, ...]:
        """Return what the last frames of a stream that ended well contain: one of these.

        A mark that begins with a line end stands at the start of a line, where no JSON text can bring it.
        """

    frame_end: bytes
    """What each frame of a stream ends with, and none contains."""

    def counts(self, route: str, tail: bytes, frames: int) -> Counts:
        """Return what the end of an answer tells; an embedding has generated no tokens.

        `frames` says how many a stream had, for APIs whose last frame may tell nothing: a worker sends a
        frame a token.
        """


class _Ambiguous(dict[str, Any]):
    """An object whose text can be read otherwise too."""


def read_object(body: bytes, route: str = "") -> dict[str, Any]:
    """Return the JSON object that a body begins with; what is wrong with it is told as on that route.

    Raises:
        BadRequestError: empty, not JSON, not an object, nested too deep, or of too many values.
    """
    if _marks(body) > MOST_VALUES and _marks(_outside_of_texts(body)) > MOST_VALUES:
        raise BadRequestError(f"the request body has too many values: no more than {MOST_VALUES} are read")
    text = body.decode("utf-8", "replace")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if start == len(text):
        raise BadRequestError(no_body(route))
    ambiguities: list[bool] = []
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs(ambiguities), parse_constant=_refuse_constant)
    try:
        parsed, end = decoder.raw_decode(text, start)
    except RecursionError as error:
        raise BadRequestError("exceeded max depth") from error
    except json.JSONDecodeError as error:
        if len(text) <= _EXPLAINED_CHARACTERS:
            raise BadRequestError(syntax_error(text)) from error
        raise BadRequestError(f"invalid JSON in the request body: {error}") from error
    except ValueError as error:  # a number of thousands of digits
        raise BadRequestError(f"invalid JSON in the request body: {error}") from error
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise BadRequestError(no_object(route, parsed))
    _check_depth(body, parsed)
    trailing = bool(text[end:].strip(" \t\r\n"))
    return _Ambiguous(parsed) if ambiguities or trailing else parsed


def _marks(json_text: bytes) -> int:
    """Return how many values there are about, and one more for each that has others inside."""
    return sum(json_text.count(mark) for mark in (b",", b"[", b"{"))


def _outside_of_texts(body: bytes) -> bytes:
    """Return a body without its texts, if it is JSON."""
    pieces = body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"', 2 * MOST_VALUES)
    return b"".join(pieces[::2])


class _Pairs:
    """Makes objects, and notes where a key stands twice."""

    def __init__(self, ambiguities: list[bool]) -> None:
        self._ambiguities = ambiguities

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        self._ambiguities.append(True)
        last: dict[str, Any] = {}
        for key, value in pairs:
            last.pop(key, None)  # so that the order is that of the last ones
            last[key] = value
        return last


def _refuse_constant(name: str) -> NoReturn:
    """Refuse what Python reads and JSON does not have."""
    raise json.JSONDecodeError(f"{name} is no JSON", "", 0)


def with_known_keys(request: dict[str, Any]) -> dict[str, Any]:
    """Return the request itself, or one with small keys: Ollama reads `"Options"` as `"options"`."""
    if not isinstance(request, _Ambiguous) and all(key == folded(key) for key in request):
        return request
    return {folded(key): value for key, value in request.items()}


def folded(key: str) -> str:
    """Return a key as Go compares it with the name of a field."""
    return key.lower().translate(_WITH_LONG_S)


def _check_depth(body: bytes, parsed: Mapping[str, Any]) -> None:
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return
    level: list[Any] = [parsed]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return
    raise BadRequestError(f"exceeded max depth: no more than {MAX_DEPTH} objects and lists inside each other")


def _inner(value: Any) -> list[Any]:  # noqa: ANN401 -- any JSON
    values = value.values() if isinstance(value, dict) else value
    return [inner for inner in values if isinstance(inner, (dict, list))]


def read_facts(
    request: Mapping[str, Any], caller: Caller, *, stream: bool, converses: bool, route: str = ""
) -> Facts:
    """Return what every surface tells alike; `converses` is false for what only embeds.

    Raises:
        BadRequestError: no model, what can be no model's name, or what every worker would die of.
    """
    model, size, harm = read_model(request, route), size_of(request), harm_of(route, request)
    if harm.refusal:
        raise BadRequestError(harm.refusal)
    return Facts(
        model=model,
        stream=stream,
        tenant=tenant_of(caller, request),
        session=session_of(caller, request) if converses else "",
        prompt_tokens=size.tokens,
        background=is_task(request),
        longest_prompt_tokens=size.longest,
        harm=harm,
    )


def read_model(request: Mapping[str, Any], route: str = "") -> str:
    """Return the model's name as it is written.

    Raises:
        BadRequestError: missing, not a text, or none that a model can have.
    """
    model = request.get("model")
    if model is not None and not isinstance(model, str):
        raise BadRequestError(wrong_type(route, "model", model, "string"))
    mistake = name_mistake(route, model or "")
    if mistake is not None:
        raise BadRequestError(mistake[1], status=mistake[0])
    return model or ""


def read_flag(request: Mapping[str, Any], key: str, *, default: bool, route: str = "") -> bool:
    """Return a boolean field; null counts as missing.

    Raises:
        BadRequestError: another type.
    """
    value = request.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequestError(wrong_type(route, key, value, "bool"))
    return value


def addressed(body: bytes, *, model: str, options: Mapping[str, Any]) -> bytes:
    """Return a body for another name of the model, and with the options that its runner has.

    Options that are the worker's own need no word.
    """
    request = json.loads(body)
    request["model"] = model
    if options:
        request["options"] = {**(request.get("options") or {}), **options}
    return json.dumps(request).encode()


def readdressed(body: bytes, model_at: tuple[int, int], model: str) -> bytes:
    """Return a body that is not JSON with another name of the model in its place."""
    whole = memoryview(body)
    return b"".join((whole[: model_at[0]], model.encode(), whole[model_at[1] :]))


def last_count(key: bytes, tail: bytes) -> int | None:
    """Return the integer behind the last occurrence of a key such as `"eval_count":`."""
    at = tail.rfind(key)
    digits = _DIGITS.match(tail, at + len(key)) if at >= 0 else None
    return int(digits[1]) if digits else None
