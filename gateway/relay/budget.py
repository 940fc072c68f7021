"""How many attempts may be made again: a share of all requests, so that failures do not multiply load.

A token bucket. Each request brings a share of a token, time brings `LEAST` tokens per window, a retry takes
one. What is saved is bounded by the requests of about the last window. Pure; `now` is monotonic seconds.

A retry that finds no token is not refused but told how long to wait for one: nobody gains from losing a
request that its deadline still lets wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import Final

SHARE: Final = 0.2
"""Of requests that may be made again."""
LEAST: Final = 3.0
"""In a window, however few requests there are."""
WINDOW_S: Final = 5.0

_ROUNDING: Final = 1e-9
"""Of a token: more than sums can be off by."""


@dataclass(slots=True)
class RetryBudget:
    """One per gateway."""

    tokens: float = LEAST
    """Below zero, by what is promised."""
    requests: float = 0.0
    """Of the last window: decayed."""
    at: float = 0.0
    """When both were true."""

    def asked(self, now: float) -> None:
        """Count a request's first attempt."""
        self._pass(now)
        self.requests += 1.0
        self.tokens = min(self._most, self.tokens + SHARE)

    def reserve(self, now: float) -> float:
        """Take a token and return the seconds until it may be used: 0 where one was there."""
        self._pass(now)
        self.tokens -= 1.0
        missing = -self.tokens
        return missing * WINDOW_S / LEAST if missing > _ROUNDING else 0.0

    @property
    def _most(self) -> float:
        return LEAST + SHARE * self.requests

    def _pass(self, now: float) -> None:
        passed_s = max(0.0, now - self.at)
        self.at = max(self.at, now)
        self.requests *= exp(-passed_s / WINDOW_S)
        self.tokens = min(self._most, self.tokens + passed_s * LEAST / WINDOW_S)
