"""How long to wait before a crashed process is started again, and when to give it a long rest.

Decides by the times of the crashes that are not forgiven yet. Knows neither what crashed nor what
time it is: crash times and the source of randomness are arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Restart:
    """What a crash leads to."""

    delay_s: float
    quarantined: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """Exponential delay with jitter; quarantine once crashes cluster. All times in seconds."""

    first_delay_s: float = 0.5
    """Long enough for a driver to give back the memory of the process that died."""
    max_delay_s: float = 60.0
    jitter: float = 0.2
    """Share of the delay by which it is made longer or shorter, so that workers do not start in step."""
    immediate: int = 0
    """This many crashes are followed by a restart without any delay."""
    stable_after_s: float = 30.0
    """A process that was ready for this long is forgiven its earlier crashes."""
    quarantine_crashes: int = 5
    """With this many crashes inside the window it is a crash loop."""
    quarantine_window_s: float = 300.0
    quarantine_delay_s: float = 600.0

    def recent(self, crashes: Sequence[float], now: float) -> list[float]:
        """Return the crashes that still lie in the window."""
        return [crash for crash in crashes if now - crash <= self.quarantine_window_s]

    def after(self, crashes: int, *, on_probation: bool, rng: Random) -> Restart:
        """Return what follows the latest of `crashes` recent crashes.

        A process on probation (started once more after a quarantine) goes back there at once.
        """
        if on_probation or crashes >= self.quarantine_crashes:
            return Restart(self.quarantine_delay_s, quarantined=True)
        if crashes <= self.immediate:
            return Restart(0.0, quarantined=False)
        delay_s = min(self.max_delay_s, self.first_delay_s * 2.0 ** (crashes - self.immediate - 1))
        return Restart(delay_s * (1.0 + rng.uniform(-self.jitter, self.jitter)), quarantined=False)
