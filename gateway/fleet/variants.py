"""Variants that requests bring with them: runner options of their own, and how many are kept in mind.

Decides which options make a variant and when one is forgotten. Pure; which worker has the weights is the
roster's, and where a variant is loaded the scheduler's. Only with `scheduling.context: pass`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.scheduling.names import Variant

Options = Mapping[str, int | bool]

PASSED: Final = frozenset({"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread"})
"""Runner options that a request may choose; any other stays the operator's."""
DEFAULTS: Final[Options] = {"num_batch": 512, "num_gpu": -1, "main_gpu": 0, "num_thread": 0}
"""What a runner has that is told nothing. Source: Ollama's api.DefaultOptions."""
LEAST_CONTEXT: Final = 8
"""As in the configuration: shorter ones hold no prompt."""
_INT32: Final = 2**31
MOST_VARIANTS: Final = 64
"""So many variants of requests are known at once."""


class OptionError(ValueError):
    """An option that cannot be honoured; the text says which and what it may be."""


class OptionTypeError(OptionError):
    """An option of another type, in Ollama's words."""


_MOST_THREADS: Final = 1024
"""A runner starts as many as it is told to, and computes nothing for minutes with too many."""


def checked(asked: Mapping[str, Any]) -> dict[str, int | bool]:
    """Return the options of a request that make a variant; null counts as not given.

    Raises:
        OptionError: of another type, or out of range.
    """
    return {
        name: _value(name, asked[name]) for name in sorted(PASSED & asked.keys()) if asked[name] is not None
    }


def check_type(name: str, value: object) -> None:
    """Return if a runner option has the type that Ollama takes; null counts as not given.

    Raises:
        OptionTypeError: another type.
    """
    flag = isinstance(value, bool)
    right = flag if name == "use_mmap" else isinstance(value, (int, float)) and not flag
    if value is not None and not right:
        wanted = "boolean" if name == "use_mmap" else "integer"
        raise OptionTypeError(f'option "{name}" must be of type {wanted}')


def _value(name: str, value: object) -> int | bool:
    check_type(name, value)
    if isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int):
        raise OptionError(f"{name} {value} is no whole number")
    if name == "num_batch" and value < 1:
        raise OptionError(f"num_batch {value} is too small: give 1 or more")
    if name == "num_thread" and value > _MOST_THREADS:
        raise OptionError(f"num_thread {value} is out of range: give {_MOST_THREADS} or less")
    if name == "num_ctx" and value < LEAST_CONTEXT:
        raise OptionError(f"num_ctx {value} is too short for a prompt: give {LEAST_CONTEXT} or more")
    if not -_INT32 <= value < _INT32:
        raise OptionError(f"{name} is out of range: give a 32-bit integer")
    return max(value, -1) if name == "num_gpu" else value  # all that is negative means the same


def with_options(base: Variant, options: Options, own: Iterable[Options]) -> Variant:
    """Return the variant with these options, of which those that all servers have anyway are dropped.

    `own` are the options that the base has on each worker that may serve it.
    """
    servers = list(own)
    differing = {name: value for name, value in options.items() if any(o.get(name) != value for o in servers)}
    return Variant(base.digest, tuple(sorted({**dict(base.options), **differing}.items())))


@dataclass(slots=True)
class PassedVariants:
    """The variants that requests brought, least recently used first: bounded, whatever clients ask."""

    most: int = MOST_VARIANTS
    _users: dict[Variant, int] = field(default_factory=dict)

    def __contains__(self, variant: object) -> bool:
        return variant in self._users

    def __iter__(self) -> Iterator[Variant]:
        return iter(self._users)

    def __len__(self) -> int:
        return len(self._users)

    def admit(self, variant: Variant, is_held: Callable[[Variant], bool]) -> bool:
        """Know a variant from now on; False when all that are known are in use or held by a worker."""
        if variant not in self._users and len(self._users) >= self.most:
            unused = (v for v, users in self._users.items() if not users and not is_held(v))
            forgotten = next(unused, None)
            if forgotten is None:
                return False
            del self._users[forgotten]
        self._users[variant] = self._users.pop(variant, 0)
        return True

    @contextmanager
    def used(self, variant: Variant) -> Iterator[None]:
        """Keep a variant known as long as the block lasts; others pass through."""
        if variant not in self._users:
            yield
            return
        self._users[variant] += 1
        try:
            yield
        finally:
            self._users[variant] -= 1
