"""The figures of runs. Pure.

The first tenth of the requests is left out of all figures but `loads`: it fills an empty machine. Over
several seeds a figure is the mean, but `max_wait_s`, which is the largest.

`jain` is Jain's index of the tenants' mean times to first token, (sum x)^2 / (n * sum x^2): 1 when all
tenants wait alike, 1/n when one waits and nobody else does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from gateway.simulate.model import Job
from gateway.simulate.simulation import Run

WARM_UP: Final = 0.1
"""The share of requests that is left out."""
GOALS_S: Final = (5, 10)
"""Times to first token whose reaching is counted."""
_DIGITS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one policy reached; times in seconds."""

    ttft_p50_s: float
    ttft_p95_s: float
    ttft_p99_s: float
    latency_mean_s: float
    latency_p95_s: float
    loads: float
    share_le: tuple[float, ...]
    """By `GOALS_S`: the share of requests at a time to first token of at most that."""
    max_wait_s: float
    """The longest time that a request had no slot."""
    jain: float


def counted(jobs: Sequence[Job]) -> Sequence[Job]:
    """Return the jobs that figures are made of."""
    return jobs[int(len(jobs) * WARM_UP) :]


def share_within(run: Run, goal_s: float) -> float:
    """Return the share of requests at a time to first token of at most `goal_s`."""
    jobs = counted(run.jobs)
    return sum(job.ttft_s <= goal_s for job in jobs) / len(jobs)


def figures(run: Run) -> Figures:
    """Return what a run came to."""
    jobs = counted(run.jobs)
    ttft = sorted(job.ttft_s for job in jobs)
    latency = sorted(job.latency_s for job in jobs)
    return Figures(
        ttft_p50_s=percentile(ttft, 0.5),
        ttft_p95_s=percentile(ttft, 0.95),
        ttft_p99_s=percentile(ttft, 0.99),
        latency_mean_s=fmean(latency),
        latency_p95_s=percentile(latency, 0.95),
        loads=run.loads,
        share_le=tuple(share_within(run, goal_s) for goal_s in GOALS_S),
        max_wait_s=max(job.waited_s for job in jobs),
        jain=jain_index(_mean_ttft_of_tenants(jobs)),
    )


def percentile(ascending: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie, without interpolation."""
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]


def jain_index(values: Sequence[float]) -> float:
    """Return how even the values are: 1 when all are alike, 1/n when one has everything."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def _mean_ttft_of_tenants(jobs: Iterable[Job]) -> list[float]:
    by_tenant: dict[str, list[float]] = defaultdict(list)
    for job in jobs:
        by_tenant[job.request.tenant].append(job.ttft_s)
    return [fmean(values) for values in by_tenant.values()]


def mean_figures(all_figures: Sequence[Figures]) -> Figures:
    """Return the figures over several seeds."""

    def mean(of: Callable[[Figures], float]) -> float:
        return fmean(map(of, all_figures))

    return Figures(
        ttft_p50_s=mean(lambda one: one.ttft_p50_s),
        ttft_p95_s=mean(lambda one: one.ttft_p95_s),
        ttft_p99_s=mean(lambda one: one.ttft_p99_s),
        latency_mean_s=mean(lambda one: one.latency_mean_s),
        latency_p95_s=mean(lambda one: one.latency_p95_s),
        loads=mean(lambda one: one.loads),
        share_le=tuple(map(fmean, zip(*(one.share_le for one in all_figures), strict=True))),
        max_wait_s=max(one.max_wait_s for one in all_figures),
        jain=mean(lambda one: one.jain),
    )


def as_json(name: str, capacity: float | None, it: Figures) -> dict[str, Any]:
    """Return one policy's entry of the report for scripts."""
    return {
        "name": name,
        "capacity": None if capacity is None else round(capacity, _DIGITS),
        "ttft_s": {
            "p50": round(it.ttft_p50_s, _DIGITS),
            "p95": round(it.ttft_p95_s, _DIGITS),
            "p99": round(it.ttft_p99_s, _DIGITS),
        },
        "latency_s": {"mean": round(it.latency_mean_s, _DIGITS), "p95": round(it.latency_p95_s, _DIGITS)},
        "loads": round(it.loads, 1),
        "share_ttft_le": {
            str(goal_s): round(share, _DIGITS) for goal_s, share in zip(GOALS_S, it.share_le, strict=True)
        },
        "max_wait_s": round(it.max_wait_s, _DIGITS),
        "jain": round(it.jain, _DIGITS),
    }


HEAD: Final = (
    "POLICY",
    "CAPACITY",
    "TTFT P50",
    "P95",
    "P99",
    "LATENCY",
    "P95",
    "LOADS",
    "TTFT<=5s",
    "TTFT<=10s",
    "MAX WAIT",
    "JAIN",
)


def as_row(name: str, capacity: float | None, it: Figures) -> tuple[str, ...]:
    """Return one policy's line of the table for people."""
    return (
        name,
        "-" if capacity is None else f"{capacity:.3f}",
        *(f"{seconds:.1f} s" for seconds in (it.ttft_p50_s, it.ttft_p95_s, it.ttft_p99_s)),
        *(f"{seconds:.1f} s" for seconds in (it.latency_mean_s, it.latency_p95_s)),
        f"{it.loads:.0f}",
        *(f"{share:.1%}" for share in it.share_le),
        f"{it.max_wait_s:.0f} s",
        f"{it.jain:.2f}",
    )
