"""The test's own accounts: what each tenant was given, and where a model must not be loaded for a while."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import exp

from gateway.scheduling.names import Instance, RequestId, Variant
from gateway.scheduling.types import Arrived, Finished

MEMORY_S = 300.0
HARD_TO_SAY = 1e-3
_MOST_DOUBLINGS = 5


@dataclass
class TokenAccount:
    """Virtual tokens by tenant: a quarter of a prompt's tokens and an answer's; given ones fade with time."""

    fair_share: float
    _used: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Tokens, and when they were counted last."""
    _charged: dict[RequestId, float] = field(default_factory=dict)
    _queued: dict[RequestId, tuple[str, float]] = field(default_factory=dict)
    _asked_at: dict[str, float] = field(default_factory=dict)

    def arrives(self, request: Arrived, mean_output: float, now: float) -> None:
        """What waits counts as what it is expected to be."""
        if not request.avoid:
            self._asked_at[request.tenant] = now
        worth = 0.25 * request.prompt_tokens + mean_output
        self._queued[request.request] = request.tenant, worth

    def waits_no_more(self, request: RequestId) -> None:
        """It was granted or refused, or left."""
        self._queued.pop(request, None)

    def granted(self, request: Arrived, mean_output: float, now: float) -> None:
        """Charge what the answer is expected to be."""
        self.waits_no_more(request.request)
        self._charged[request.request] = 0.25 * request.prompt_tokens + mean_output
        self._charge(request.tenant, self._charged[request.request], now)

    def finished(self, request: Arrived, end: Finished, now: float) -> None:
        """Correct it by what the answer was."""
        charged = self._charged.pop(request.request)
        if end.output_tokens is not None:
            prompt = request.prompt_tokens if end.prompt_tokens is None else end.prompt_tokens
            self._charge(request.tenant, 0.25 * prompt + end.output_tokens - charged, now)

    def left(self, request: Arrived, now: float, *, answered: bool) -> None:
        """Give back what was charged for an answer that never began."""
        charged = self._charged.pop(request.request)
        if not answered:
            self._charge(request.tenant, -charged, now)

    def demand(self, tenant: str, now: float) -> float:
        """Return what the tenant was given lately and asks for now."""
        used, at = self._used.get(tenant, (0.0, now))
        return used * exp((at - now) / MEMORY_S) + sum(w for t, w in self._queued.values() if t == tenant)

    def excess(self, tenant: str, now: float) -> float | None:
        """Return the demand of a tenant that is over its share, else 0; None when it is hard to say."""
        others = [other for other in self._asked_at if other != tenant]
        if not others:
            return 0.0
        demand = self.demand(tenant, now)
        share = self.fair_share * sum(self.demand(other, now) for other in others) / len(others)
        idle_s = now - min(self._asked_at.values())
        if idle_s > MEMORY_S - 1 or abs(demand - share) < HARD_TO_SAY:
            return None
        return demand if demand > share else 0.0

    def _charge(self, tenant: str, tokens: float, now: float) -> None:
        used, at = self._used.get(tenant, (0.0, now))
        self._used[tenant] = max(0.0, used * exp((at - now) / MEMORY_S) + tokens), now


@dataclass
class Strikes:
    """Where a model was refused, how often in a row, and until when it must not be tried there again."""

    retry_s: float
    _times: dict[tuple[Instance, Variant], int] = field(default_factory=dict)
    _until: dict[tuple[Instance, Variant], float] = field(default_factory=dict)
    _broken: set[tuple[Instance, Variant]] = field(default_factory=set)
    """Where the last load broke off, which is no verdict."""

    def refused(self, instance: Instance, variant: Variant, now: float) -> None:
        """Each refusal in a row doubles the time."""
        key = instance, variant
        self._times[key] = self._times.get(key, 0) + 1
        self._until[key] = now + self.retry_s * 2 ** min(self._times[key] - 1, _MOST_DOUBLINGS)
        self._broken.discard(key)

    def broke_off(self, instance: Instance, variant: Variant, now: float) -> None:
        """A load that broke off is no verdict, but is not repeated in the same instant."""
        self._until[instance, variant] = now + 0.5
        self._broken.add((instance, variant))

    def succeeded(self, instance: Instance, variant: Variant) -> None:
        """The model is there and well."""
        self._times.pop((instance, variant), None)
        self._until.pop((instance, variant), None)

    def forbidden(self, instance: Instance, variant: Variant, now: float) -> bool:
        """Whether a load there is too early."""
        return now < self._until.get((instance, variant), now) - 1e-6

    def failed(self, instance: Instance, variant: Variant, now: float) -> bool:
        """Whether the last load there failed so recently that it is remembered."""
        more_s = 0.5 if (instance, variant) in self._broken else 0.0
        return now < self._until.get((instance, variant), -1.0) + more_s

    def last(self, variant: Variant) -> float:
        """Return when the last of its waits is over."""
        return max((until for (_, v), until in self._until.items() if v == variant), default=0.0)

    def refused_everywhere(self, variant: Variant, instances: Iterable[Instance]) -> bool:
        """Whether each of the workers has refused it when it was last loaded there."""
        keys = [(instance, variant) for instance in instances]
        return all(self._times.get(key) and key not in self._broken for key in keys)

    def waits(self, instance: Instance, variant: Variant, now: float) -> bool:
        """Whether a load there may still be held back."""
        return now <= self._until.get((instance, variant), -1.0) + 1.0
