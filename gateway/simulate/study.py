"""What is to be found out: one policy under one seed, its figures and its capacity.

Decides how a scenario becomes requests and what capacity is: the largest offered load rho between 0.02 and
1 at which at least 90 % of the requests have a time to first token of at most 10 s, found by bisection
to 0.01. A trace's rate is scaled until its offered load is rho.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.simulate.model import Fleet, Job
from gateway.simulate.policies.registry import policy_maker
from gateway.simulate.report import Figures, figures, share_within
from gateway.simulate.simulation import Run, simulate
from gateway.simulate.workload import Row, Synthetic, synthetic_jobs, trace_jobs, trace_rho
from supervisor.contract.config import SchedulingConfig

GOAL_S: Final = 10.0
"""Time to first token."""
GOAL_SHARE: Final = 0.9
_LEAST_RHO: Final = 0.02
_MOST_RHO: Final = 1.0
_STEP: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A fleet and what it is asked."""

    fleet: Fleet
    source: Synthetic | Sequence[Row]
    """A process, or the rows of a trace."""
    rho: float | None
    """Offered load at which figures are taken; None is a trace as it is, which has no rate."""
    scheduling: SchedulingConfig

    def jobs(self, rho: float | None, seed: int) -> list[Job]:
        """Return the requests at an offered load; a trace's are the same under every seed.

        Raises:
            NoRequestsError: a process makes none.
        """
        if isinstance(self.source, Synthetic):
            assert rho is not None, "a process has a rate"
            return synthetic_jobs(self.fleet, self.source, rho, seed)
        scale = 1.0 if rho is None else rho / trace_rho(self.fleet, self.source)
        return trace_jobs(self.fleet, self.source, scale)

    def run(self, policy: str, rho: float | None, seed: int) -> Run:
        """Return what becomes of the requests under a policy."""
        maker = policy_maker(policy, self.scheduling)
        return simulate(self.fleet, self.jobs(rho, seed), maker, seed)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one policy reached under one seed."""

    figures: Figures
    capacity: float | None


def find(study: Study, policy: str, seed: int, *, with_capacity: bool) -> Finding:
    """Run a policy, and find its capacity if asked to."""
    return Finding(
        figures(study.run(policy, study.rho, seed)),
        capacity(study, policy, seed) if with_capacity else None,
    )


def capacity(study: Study, policy: str, seed: int) -> float:
    """Return the largest offered load that reaches the goal; 0 when even the least does not."""

    def reaches(rho: float) -> bool:
        return share_within(study.run(policy, rho, seed), GOAL_S) >= GOAL_SHARE

    if not reaches(_LEAST_RHO):
        return 0.0
    low, high = _LEAST_RHO, _MOST_RHO
    while high - low > _STEP:
        middle = (low + high) / 2
        low, high = (middle, high) if reaches(middle) else (low, middle)
    return low
