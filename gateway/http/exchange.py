"""What one request carries from its arrival through all its attempts, wherever these are made.

Decides what the next attempt asks the scheduler for, and what is remembered of a failed one. What may be
tried again is decided in `relay.outcome`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from gateway.fleet.roster import Target
from gateway.http.arrival import ARRIVAL
from gateway.http.request_log import RequestRecord
from gateway.relay.outcome import AttemptFailedError, Outcome, breaks_of, may_retry, to_tell
from gateway.scheduling.names import NOWHERE, Instance, Variant
from gateway.scheduling.types import Arrived
from gateway.surfaces.echo import Echo
from gateway.surfaces.surface import Facts, Surface


@dataclass(slots=True)
class Exchange:
    """What one request carries through its attempts."""

    request: web.Request
    surface: Surface
    route: str
    """As workers know it."""
    target: Target
    facts: Facts
    body: bytes
    """What goes to the worker."""
    content_type: str
    variant: Variant
    arrived_at: float
    deadline: float
    record: RequestRecord
    avoid: frozenset[Instance] = frozenset()
    """Where it failed."""
    barred: frozenset[Instance] = NOWHERE
    """Where it cannot be served."""
    breaks: int = 0
    """How often it may have harmed a worker."""
    failure: Outcome | None = None
    """What its client is told if no attempt ends well."""

    @property
    def echo(self) -> Echo | None:
        """What has the answer name the model as the client did; None where the worker does it."""
        asked = self.facts.model
        return Echo(asked) if self.target.name != asked else None

    def arrival(self) -> Arrived:
        """Return the event of the next attempt; each has an id of its own."""
        facts = self.facts
        return Arrived(
            request=self.record.asks(self.variant, self.arrived_at),
            variant=self.variant,
            arrived_at=self.arrived_at,
            deadline=self.deadline,
            keep_alive_s=facts.keep_alive_s,
            keep_alive_given=facts.keep_alive_given,
            avoid=self.avoid,
            barred=self.barred,
            tenant=facts.tenant,
            session=facts.session,
            prompt_tokens=facts.prompt_tokens,
            background=facts.background,
            admitted=self.request[ARRIVAL].admitted,
        )

    def failed(self, instance: Instance, outcome: Outcome) -> None:
        """Remember where and how an attempt failed."""
        self.avoid |= {instance}
        self.breaks += breaks_of(outcome)
        self.failure = to_tell(outcome, self.failure, asyncio.get_running_loop().time() - self.arrived_at)

    def may_try_again(self, error: BaseException) -> bool:
        """Whether the failure allows another attempt."""
        return isinstance(error, AttemptFailedError) and may_retry(error.outcome, breaks=self.breaks)
