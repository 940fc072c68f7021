"""Workloads: rows of a trace, or a synthetic process, as jobs in the order of arrival.

The synthetic process: popularity by Zipf over a shuffled order of the models; each model's arrivals are a
renewal process with Gamma gaps; lengths are drawn from observed pairs. With shifts, the run is cut into
equal parts by requests, and the order is reversed or kept, then shuffled anew, at each cut.

`rho` is the offered load everywhere: GPU time that the requests take when all batches are full and nothing
is loaded, by the time that the fleet's workers have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

from gateway.simulate.model import Fleet, Job, Model, Request
from supervisor.contract.names import InvalidModelNameError, ModelName


class Tokens(NamedTuple):
    """Lengths of one prompt and its answer."""

    prompt: int
    output: int


class Row(NamedTuple):
    """One request of a trace."""

    at: float
    model: str
    tenant: str
    tokens: Tokens
    session: str = ""
    """Requests of one conversation; empty is none."""
    background: bool = False
    """Nobody waits for the answer at a screen."""


class NoRateError(ValueError):
    """Requests that come all at once cannot be made to offer a load."""


class NoRequestsError(ValueError):
    """A process made none."""


class UnknownModelError(ValueError):
    """A trace asks for a model that the scenario lacks."""

    def __init__(self, model: str, requests: int) -> None:
        super().__init__(
            f"{model!r}, which {requests} of the requests ask for, is not among `models`: add it there, with "
            "its size_gb"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """A process that makes requests."""

    zipf: float
    cv: float
    """Coefficient of variation of each model's gaps; 1 is Poisson."""
    requests: int
    shifts: int
    tenants: int
    prompt_scale: float
    lengths: Sequence[Tokens]


MEAN_PROMPT: Final = 1000
MEAN_OUTPUT: Final = 200
"""Tokens, where no lengths were observed."""
_MEAN_OVER: Final = 4000
"""Draws by which the mean lengths are taken."""


def exponential_lengths() -> list[Tokens]:
    """Return pairs for want of observed ones: independent, exponential, of fixed means."""
    chance = Random(0)  # noqa: S311 -- a simulation is to be repeatable
    return [
        Tokens(1 + int(chance.expovariate(1 / MEAN_PROMPT)), 1 + int(chance.expovariate(1 / MEAN_OUTPUT)))
        for _ in range(_MEAN_OVER)
    ]


def synthetic_jobs(fleet: Fleet, process: Synthetic, rho: float, seed: int) -> list[Job]:
    """Return what the process makes at an offered load of `rho`; about `process.requests` jobs.

    Raises:
        NoRequestsError: so few that there are none.
    """
    chance = Random(seed)  # noqa: S311 -- a simulation is to be repeatable
    order = list(fleet.models)
    chance.shuffle(order)
    drawn = [chance.choice(process.lengths) for _ in range(_MEAN_OVER)]
    prompt = sum(tokens.prompt for tokens in drawn) / _MEAN_OVER * process.prompt_scale
    output = sum(tokens.output for tokens in drawn) / _MEAN_OVER
    shares = _zipf_shares(len(order), process.zipf)
    arrivals: list[_Arrival] = []
    begin = 0.0
    for part in range(process.shifts + 1):
        mean_s = sum(
            share * fleet.work_s(model, prompt, output) for share, model in zip(shares, order, strict=True)
        )
        rate = rho * fleet.power / mean_s
        end = begin + process.requests // (process.shifts + 1) / rate
        for share, model in zip(shares, order, strict=True):
            arrivals += _renewals(chance, process, model, rate * share, begin, end)
        begin = end
        if part % 2 == 0:
            order.reverse()  # so that the draws are those of the reference, seed by seed
        chance.shuffle(order)
    if not arrivals:
        parts = f" in {process.shifts + 1} parts" if process.shifts else ""
        raise NoRequestsError(f"requests: {process.requests}{parts} come to none at all: ask for more")
    arrivals.sort(key=lambda arrival: (arrival.at, arrival.model.index, arrival.tokens))
    return [
        Job(
            Request(at, one.at, one.model, f"tenant-{at % process.tenants}", one.tokens.prompt),
            one.tokens.output,
        )
        for at, one in enumerate(arrivals)
    ]


class _Arrival(NamedTuple):
    at: float
    model: Model
    tokens: Tokens


def _zipf_shares(ranks: int, exponent: float) -> list[float]:
    weights = [1 / rank**exponent for rank in range(1, ranks + 1)]
    return [weight / sum(weights) for weight in weights]


def _renewals(
    chance: Random, process: Synthetic, model: Model, rate: float, begin: float, end: float
) -> Iterator[_Arrival]:
    """Yield one model's arrivals between two moments, so many per second."""
    shape = 1 / process.cv**2
    gap_scale_s = 1 / (shape * rate)
    at = begin + chance.expovariate(rate)
    while at < end:
        drawn = chance.choice(process.lengths)
        yield _Arrival(at, model, Tokens(int(drawn.prompt * process.prompt_scale) + 1, drawn.output))
        at += chance.gammavariate(shape, gap_scale_s)


def named_as(fleet: Fleet, rows: Sequence[Row]) -> list[Row]:
    """Return rows whose models are called as the fleet calls them (`tiny` is `tiny:latest`).

    Raises:
        UnknownModelError: a row asks for a model that the fleet lacks.
    """
    names = {ModelName.parse(model.name).key: model.name for model in fleet.models}
    found: dict[str, str | None] = {}
    renamed = []
    for row in rows:
        if row.model not in found:
            found[row.model] = names.get(_key(row.model))
        name = found[row.model]
        if name is None:
            raise UnknownModelError(row.model, sum(other.model == row.model for other in rows))
        renamed.append(row._replace(model=name))
    return renamed


def _key(name: str) -> str:
    try:
        return ModelName.parse(name).key
    except InvalidModelNameError:
        return ""


def trace_rho(fleet: Fleet, rows: Sequence[Row]) -> float:
    """Return the offered load of a trace as it is.

    Raises:
        NoRateError: its requests come all at once.
    """
    models = {model.name: model for model in fleet.models}
    seconds = max(row.at for row in rows) - min(row.at for row in rows)
    if seconds <= 0:
        raise NoRateError("all requests come at one moment, so there is no rate to change")
    return sum(fleet.work_s(models[row.model], *row.tokens) for row in rows) / (seconds * fleet.power)


def trace_jobs(fleet: Fleet, rows: Sequence[Row], rate_scale: float) -> list[Job]:
    """Return a trace's rows as jobs, so many times as fast; the first comes at 0."""
    models = {model.name: model for model in fleet.models}
    ordered = sorted(rows, key=lambda row: row.at)
    return [
        Job(
            Request(
                index=at,
                arrived_at=(row.at - ordered[0].at) / rate_scale,
                model=models[row.model],
                tenant=row.tenant,
                prompt_tokens=row.tokens.prompt,
                session=row.session,
                background=row.background,
            ),
            row.tokens.output,
        )
        for at, row in enumerate(ordered)
    ]
