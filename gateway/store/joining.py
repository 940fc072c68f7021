"""How several clients follow one operation: two pulls of a model are one.

Who comes later is told first how far it is: every status there was and each bar as it stands. Who reads
slowly misses what a later line has made worthless, so that nothing piles up. Knows no sockets.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from gateway.store.merging import Told
from gateway.store.requests import Kind, StoreRequest


def joins_by(request: StoreRequest) -> str | None:
    """Return what makes two requests one; None for what is done for each client by itself."""
    if request.kind is not Kind.PULL:
        return None
    how = {key: value for key, value in request.body.items() if key not in {"model", "stream"}}
    return json.dumps([request.key, how], sort_keys=True)


def outlives_its_clients(request: StoreRequest) -> bool:
    """Whether it goes on when nobody follows it any more: what is done in a moment is not left half done."""
    return not request.shows_progress


@dataclass(slots=True, eq=False)
class Follower:
    """What one client has still to be told."""

    pending: dict[str, bytes]

    def take(self) -> bytes:
        """Return the lines that are due, and forget them."""
        lines = b"".join(self.pending.values())
        self.pending.clear()
        return lines


@dataclass(slots=True)
class Broadcast:
    """What was told so far, and to whom."""

    followers: list[Follower] = field(default_factory=list)
    _told: dict[str, bytes] = field(default_factory=dict)

    def tell(self, told: Told) -> None:
        """Have everybody hear a line."""
        self._told[told.key] = told.line
        for follower in self.followers:
            follower.pending[told.key] = told.line

    def follow(self) -> Follower:
        """Let somebody join; the first to follow leads."""
        follower = Follower(dict(self._told))
        self.followers.append(follower)
        return follower

    def leave(self, follower: Follower) -> bool:
        """Let somebody go; whether nobody is left."""
        self.followers.remove(follower)
        return not self.followers
