"""What an old gateway tells a new one: the slots that its answers hold, and the end of each. Pure.

Decides the wire form, one JSON object a line. Moments travel as ages, because two processes need not share
a clock. Only answers under way are told: all that waits comes again as a request (`forwarding.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.types import Arrived, Finished, Left

TAKE: Final = b"take\n"
"""A new gateway asks for everything."""
SERVING: Final = b"serving\n"
"""It serves: the old one is not needed any more. If it hangs up without this, nothing has happened."""
LONGEST_LINE_BYTES: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An answer under way, with the slot that it holds."""

    request: Arrived
    instance: Instance
    granted_at: float
    """On the clock of whoever looks at it."""


@dataclass(frozen=True, slots=True)
class Estate:
    """All that is handed over."""

    under_way: tuple[UnderWay, ...] = ()
    held: tuple[tuple[Instance, Variant, int], ...] = ()
    """What each process holds, as what it was loaded there, with its tokens per slot."""
    passed: tuple[Variant, ...] = ()
    """Variants that requests brought, least recently used first."""


@dataclass(frozen=True, slots=True)
class Over:
    """An answer has ended, and its slot is free."""

    request: RequestId
    ended_well: bool
    output_tokens: int | None = None
    prompt_tokens: int | None = None

    @classmethod
    def of(cls, event: Finished | Left) -> Over:
        """Return what is told of the event that ended it."""
        if isinstance(event, Left):
            return cls(event.request, ended_well=False)
        return cls(
            event.request,
            ended_well=True,
            output_tokens=event.output_tokens,
            prompt_tokens=event.prompt_tokens,
        )


def encode_estate(estate: Estate, now: float) -> bytes:
    """Return the first line."""
    document = {
        "under_way": [_encode(one, now) for one in estate.under_way],
        "held": [[*instance, *_plain(variant), context] for instance, variant, context in estate.held],
        "passed": [_plain(variant) for variant in estate.passed],
    }
    return _line(document)


def decode_estate(line: bytes, now: float) -> Estate:
    """Return what the first line tells.

    Raises:
        ValueError: it is not the first line of a gateway of this version.
    """
    try:
        document = json.loads(line)
        return Estate(
            tuple(_decode(row, now) for row in document["under_way"]),
            tuple(
                (Instance(worker, incarnation), _variant(digest, options), context)
                for worker, incarnation, digest, options, context in document["held"]
            ),
            tuple(_variant(*row) for row in document["passed"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not what a gateway hands over: {error!r}") from error


def encode_over(over: Over) -> bytes:
    """Return the line of an end."""
    return _line(
        {
            "over": over.request,
            "well": over.ended_well,
            "tokens": [over.output_tokens, over.prompt_tokens],
        }
    )


def decode_over(line: bytes) -> Over:
    """Return what such a line tells.

    Raises:
        ValueError: it is none.
    """
    try:
        document = json.loads(line)
        output_tokens, prompt_tokens = document["tokens"]
        return Over(RequestId(document["over"]), bool(document["well"]), output_tokens, prompt_tokens)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the end of an answer: {error!r}") from error


def _encode(one: UnderWay, now: float) -> dict[str, Any]:
    asked = one.request
    return {
        "request": asked.request,
        "variant": _plain(asked.variant),
        "on": list(one.instance),
        "waited_s": now - asked.arrived_at,
        "granted_s": now - one.granted_at,
        "keep_alive": [asked.keep_alive_given, asked.keep_alive_s],
        "tenant": asked.tenant,
        "session": asked.session,
        "prompt_tokens": asked.prompt_tokens,
    }


def _decode(row: Mapping[str, Any], now: float) -> UnderWay:
    given, keep_alive_s = row["keep_alive"]
    request = Arrived(
        request=RequestId(row["request"]),
        variant=_variant(*row["variant"]),
        arrived_at=now - row["waited_s"],
        deadline=now,  # it does not wait
        keep_alive_s=keep_alive_s,
        keep_alive_given=given,
        tenant=row["tenant"],
        session=row["session"],
        prompt_tokens=row["prompt_tokens"],
        admitted=True,
    )
    return UnderWay(request, Instance(*row["on"]), now - row["granted_s"])


def _plain(variant: Variant) -> list[Any]:
    return [variant.digest, [list(option) for option in variant.options]]


def _variant(digest: str, options: list[list[Any]]) -> Variant:
    return Variant(digest, tuple((name, value) for name, value in options))


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
