"""What is asked during the faults: a seeded mix of APIs, clients, lengths and habits.

Every answer is known beforehand: the counting models count, and embeddings are compared with those of the
first, quiet minute. Pure: a seed gives the same requests each time, whatever happens to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any, Final

QUICK_MODELS: Final = ("one", "two")
"""Small counting models: a word takes a third of a millisecond."""
SLOW_MODEL: Final = "slow"
"""A counting model that takes a few milliseconds for a word, so that faults meet its answers half-way."""
LATE_MODEL: Final = "late"
"""A counting model that takes long to load, for clients that leave meanwhile."""
EMBEDDING_MODEL: Final = "embed"
TEXTS: Final = ("horse", "a ranch", "the green hills of the north")

_LEAVERS: Final = 0.02
"""Share of clients that leave before the first byte, and as many again that leave in the middle."""
_LONG: Final = 0.02
_FRESH: Final = 0.3
_STREAMED: Final = 0.6


class Call(StrEnum):
    """A route, with the client libraries that know it."""

    CHAT = "/api/chat"
    GENERATE = "/api/generate"
    EMBED = "/api/embed"
    COMPLETION = "/v1/completions"
    CHAT_COMPLETION = "/v1/chat/completions"
    EMBEDDING = "/v1/embeddings"
    MESSAGES = "/v1/messages"

    @property
    def embeds(self) -> bool:
        """Whether it answers with vectors."""
        return self in (Call.EMBED, Call.EMBEDDING)


class Client(StrEnum):
    """Who asks."""

    RAW = "aiohttp"
    OLLAMA = "ollama"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


_MIX: Final = (
    *((3, Client.RAW, call) for call in Call),
    (6, Client.OLLAMA, Call.CHAT),
    (4, Client.OLLAMA, Call.GENERATE),
    (2, Client.OLLAMA, Call.EMBED),
    (6, Client.OPENAI, Call.CHAT_COMPLETION),
    (2, Client.OPENAI, Call.COMPLETION),
    (2, Client.OPENAI, Call.EMBEDDING),
    (5, Client.ANTHROPIC, Call.MESSAGES),
)
"""Weight, client, route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, what must come of it, and how its client behaves."""

    id: str
    client: Client
    call: Call
    model: str
    words: int = 0
    """Numbers in the answer."""
    begin: int = 0
    """The number that a raw prompt ends with; 0 where the model begins at 1."""
    text: str = ""
    """What is embedded."""
    streamed: bool = False
    fresh: bool = False
    """On a connection of its own; else on one that is kept."""
    leaves_after_s: float | None = None
    """The client goes away so long after it asked, unless the answer is there."""
    leaves_after_words: int | None = None
    """The client goes away in the middle of the answer."""
    pause_s: float = 0.0
    """A slow reader rests so long after each piece (aiohttp only)."""
    may_be_gone: bool = False
    """The model is deleted meanwhile: a 404 is a right answer."""

    @property
    def leaves(self) -> bool:
        """Whether the client means to go away early."""
        return self.leaves_after_s is not None or self.leaves_after_words is not None

    def expected(self) -> list[str]:
        """Return the words of the whole answer."""
        return [str(number) for number in range(self.begin + 1, self.begin + 1 + self.words)]


def asks(seed: int, count: int) -> Iterator[Ask]:
    """Yield the requests of a seed."""
    chance = Random(seed)  # noqa: S311 -- a workload, not a secret
    for number in range(count):
        yield _ask(f"chaos-{seed}-{number:05}", chance)


def _ask(request_id: str, chance: Random) -> Ask:
    ((_, client, call),) = chance.choices(_MIX, [weight for weight, _, _ in _MIX])
    fresh, dice = chance.random() < _FRESH, chance.random()
    after_s = chance.uniform(0, 0.3) if dice < _LEAVERS else None
    if call.embeds:
        text = chance.choice(TEXTS)
        return Ask(
            id=request_id,
            client=client,
            call=call,
            model=EMBEDDING_MODEL,
            text=text,
            fresh=fresh,
            leaves_after_s=after_s,
        )
    model, words = _model_and_words(chance)
    streamed = chance.random() < _STREAMED
    early = streamed and _LEAVERS <= dice < 2 * _LEAVERS and words > 1
    return Ask(
        id=request_id,
        client=client,
        call=call,
        model=model,
        words=words,
        begin=chance.randint(1, 100) if call is Call.GENERATE else 0,
        streamed=streamed,
        fresh=fresh,
        leaves_after_s=after_s,
        leaves_after_words=chance.randint(1, words - 1) if early else None,
    )


def _model_and_words(chance: Random) -> tuple[str, int]:
    dice = chance.random()
    if dice < _LONG:
        return chance.choice(QUICK_MODELS), chance.randint(200, 500)
    if dice < 10 * _LONG:
        return SLOW_MODEL, chance.randint(10, 60)
    return chance.choice(QUICK_MODELS), chance.randint(1, 30)


def body(ask: Ask) -> dict[str, Any]:
    """Return the JSON that a client without a library sends."""
    chat = {"model": ask.model, "messages": messages(), "stream": ask.streamed}
    match ask.call:
        case Call.CHAT:
            return {**chat, "options": options(ask)}
        case Call.GENERATE:
            return {
                "model": ask.model,
                "prompt": prompt(ask),
                "raw": True,
                "stream": ask.streamed,
                "options": options(ask),
            }
        case Call.EMBED | Call.EMBEDDING:
            return {"model": ask.model, "input": ask.text}
        case Call.COMPLETION:
            return {
                "model": ask.model,
                "prompt": "go",
                "stream": ask.streamed,
                "max_tokens": ask.words,
                "temperature": 0,
            }
        case Call.CHAT_COMPLETION | Call.MESSAGES:
            return {**chat, "max_tokens": ask.words, "temperature": 0}


def messages() -> list[dict[str, str]]:
    """Return a conversation of one question."""
    return [{"role": "user", "content": "go"}]


def prompt(ask: Ask) -> str:
    """Return a raw prompt that the model goes on from."""
    return f"{max(1, ask.begin - 1)} {ask.begin}"


def options(ask: Ask) -> dict[str, Any]:
    """Return how long the answer is to be, as Ollama's API says it."""
    return {"num_predict": ask.words, "temperature": 0}
