"""Whether and how an answer that broke off goes on from another worker. Pure.

The rules from first to last: what the request asks (`surfaces/continuing.py`), what the client has got
(`surfaces/continuing_frames.py`), which engine would go on, and what its model does to an answer before the
client sees it. Counts are those of both parts: the second worker counts the first one into its prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.relay.outcome import Broken, StreamFailedError
from gateway.surfaces.continuing import CannotContinueError, Task
from gateway.surfaces.continuing_frames import Ending, Frames, Sent
from gateway.workers.engines import continues_texts

MOST_BREAKS: Final = 3
"""An answer that broke off so often is given up: it may be what breaks the workers."""

_HIDING_FAMILIES: Final = frozenset({"gptoss", "gpt-oss"})
"""Their answers have marks that Ollama takes out, whether or not the model names a parser."""
_PARSER: Final = re.compile(r"^PARSER\s", re.MULTILINE)
_LIMIT: Final = re.compile(r"^num_predict\s+(-?\d+)", re.MULTILINE)
_NS: Final = 1_000_000_000


def check_sent(sent: Sent) -> None:
    """Return if what the client has can be gone on with.

    Raises:
        CannotContinueError: it is more than text, or too long, or shows no form.
    """
    if sent.obstacle:
        raise CannotContinueError(sent.obstacle)
    if not sent.form:
        raise CannotContinueError("its frames do not show how further ones would look")


def check_model(task: Task, engine: str, shown: Mapping[str, Any]) -> None:
    """Return if a worker goes on with the text exactly where its model would have; `shown` is its /api/show.

    Raises:
        CannotContinueError: it would not, or nobody knows.
    """
    if not continues_texts(engine):
        raise CannotContinueError(f"whether the engine {engine} goes on with a text is not known")
    if task.prompt is not None:
        return
    details = shown.get("details") or {}
    hides = str(details.get("family", "")).lower() in _HIDING_FAMILIES
    if hides or shown.get("parser") or _PARSER.search(str(shown.get("modelfile") or "")):
        raise CannotContinueError("the engine shows the model's answers only in part")
    if task.thinks is not False and "thinking" in (shown.get("capabilities") or ()):
        raise CannotContinueError("the model thinks before it answers")


def tokens_left(task: Task, sent: Sent, shown: Mapping[str, Any]) -> int | None:
    """Return how many more tokens the answer may have, None for no limit; the Modelfile's holds too."""
    limit = task.limit
    if limit is None:
        found = _LIMIT.search(str(shown.get("parameters") or ""))
        limit = int(found[1]) if found else 0
    return max(0, limit - sent.tokens) if limit > 0 else None


def is_complete(task: Task, sent: Sent) -> bool:
    """Whether the client has all of the text, so that no worker has to be asked for more."""
    return bool(sent.finished) or tokens_left(task, sent, {}) == 0


@dataclass(slots=True)
class Teller:
    """Turns the frames of the worker that goes on into those of the stream that broke."""

    frames: Frames
    sent_before: int = field(init=False)
    """Tokens that the client had from earlier workers."""
    last: Mapping[str, Any] = field(default_factory=dict)
    """The worker's last frame."""

    def __post_init__(self) -> None:
        """Count from here on."""
        self.sent_before = self.frames.sent.tokens

    def tell(self, lines: bytes) -> Iterator[bytes]:
        """Yield what the client is sent for whole lines of the worker's.

        Raises:
            StreamFailedError: the worker tells an error, or no JSON.
        """
        for line in filter(bytes.strip, lines.split(b"\n")):
            frame = _object(line)
            if frame.get("error"):
                raise StreamFailedError(Broken(self.frames.sent.characters, str(frame["error"])))
            text = str(frame.get("response") or "")
            if text:
                self.frames.sent.add(text)
                yield self.frames.piece(text, str(frame.get("created_at", "")))
            if frame.get("done"):
                self.last = frame

    def ending(self, times: Times, story: Mapping[str, Any], *, include_usage: bool) -> Ending:
        """Return what the last frames say; the worker read what the client had as part of its prompt."""
        read, generated = (int(self.last.get(name, 0)) for name in ("prompt_eval_count", "eval_count"))
        return Ending(
            reason=str(self.last.get("done_reason") or "stop"),
            prompt_tokens=max(0, read - self.sent_before),
            output_tokens=self.sent_before + generated,
            worker=self.last,
            story=story,
            include_usage=include_usage,
            total_ns=times.total_ns,
            before_ns=times.before_ns,
        )


@dataclass(frozen=True, slots=True)
class Times:
    """Of an answer that went on."""

    total_s: float
    """Since the request came."""
    before_s: float
    """What earlier workers generated for."""

    @property
    def total_ns(self) -> int:
        """The same in nanoseconds."""
        return int(self.total_s * _NS)

    @property
    def before_ns(self) -> int:
        """The same in nanoseconds."""
        return int(self.before_s * _NS)


def complete_ending(
    sent: Sent, times: Times, story: Mapping[str, Any], *, prompt_tokens: int, include_usage: bool
) -> Ending:
    """Return what the last frames say where no worker had to be asked: the prompt's length is an estimate."""
    return Ending(
        reason="length",
        prompt_tokens=prompt_tokens,
        output_tokens=sent.tokens,
        story=story,
        include_usage=include_usage,
        total_ns=times.total_ns,
        before_ns=times.before_ns,
    )


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(line)
    except ValueError as error:
        raise StreamFailedError(Broken(0, "the answer cannot be read")) from error
    return told if isinstance(told, dict) else {}
