"""The keys of everything that is scheduled: processes, what they run, and requests.

Tuples, because they are looked up on every event and tuples hash fastest.
"""

from __future__ import annotations

from typing import Final, NamedTuple, NewType

RequestId = NewType("RequestId", str)


class Instance(NamedTuple):
    """One process of a worker. A successor is another instance, so the dead cannot hurt it."""

    worker: str
    incarnation: int

    def __str__(self) -> str:
        """`gpu0#3`, as logs show it."""
        return f"{self.worker}#{self.incarnation}"


NOWHERE: Final = frozenset[Instance]()
"""From where a request is barred that any worker can serve."""


class Variant(NamedTuple):
    """What a runner is keyed by: the weights and the options that would force a reload."""

    digest: str
    options: tuple[tuple[str, int | bool], ...] = ()

    @property
    def weights(self) -> Variant:
        """The same weights without options: what a worker's lists tell apart."""
        return Variant(self.digest)

    @property
    def num_ctx(self) -> int | None:
        """Tokens per slot that the operator wants for it; None is what the worker has."""
        return dict(self.options).get("num_ctx")
