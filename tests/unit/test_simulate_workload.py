from __future__ import annotations

from itertools import pairwise
from statistics import fmean, stdev

import pytest

from gateway.simulate.model import Job
from gateway.simulate.tables import TableError, read_lengths, read_trace
from gateway.simulate.workload import (
    Row,
    Synthetic,
    Tokens,
    UnknownModelError,
    exponential_lengths,
    named_as,
    synthetic_jobs,
    trace_jobs,
    trace_rho,
)
from tests.support.simulated import a_fleet

FLEET = a_fleet(workers=2, models=4)
LENGTHS = [Tokens(100, 10), Tokens(300, 30)]


def process(*, requests: int = 20_000, cv: float = 2.0, zipf: float = 1.0, shifts: int = 0) -> Synthetic:
    """Return a process with ten tenants and the lengths above."""
    return Synthetic(
        zipf=zipf, cv=cv, requests=requests, shifts=shifts, tenants=10, prompt_scale=0.5, lengths=LENGTHS
    )


def counts(jobs: list[Job]) -> list[int]:
    """Return how often each model is asked for, the most popular first."""
    of = [sum(job.request.model is model for job in jobs) for model in FLEET.models]
    return sorted(of, reverse=True)


def test_as_many_requests_come_as_were_ordered() -> None:
    """In the mean: each model's arrivals are drawn by themselves."""
    assert len(synthetic_jobs(FLEET, process(), 0.5, 1)) == pytest.approx(20_000, rel=0.05)


@pytest.mark.parametrize("rho", [0.1, 0.8])
def test_they_offer_the_load_that_was_ordered(rho: float) -> None:
    """GPU time in full batches, by the time of all workers."""
    jobs = synthetic_jobs(FLEET, process(), rho, 1)
    rows = [
        Row(j.request.arrived_at, j.request.model.name, "", Tokens(j.request.prompt_tokens, j.output_tokens))
        for j in jobs
    ]
    assert trace_rho(FLEET, rows) == pytest.approx(rho, rel=0.05)


@pytest.mark.parametrize("cv", [1.0, 3.0])
def test_gaps_vary_as_ordered(cv: float) -> None:
    """Coefficient of variation of one model's gaps."""
    jobs = synthetic_jobs(FLEET, process(cv=cv, zipf=0), 0.5, 1)
    times = [job.request.arrived_at for job in jobs if job.request.model is FLEET.models[0]]
    gaps = [later - sooner for sooner, later in pairwise(times)]
    assert stdev(gaps) / fmean(gaps) == pytest.approx(cv, rel=0.1)


def test_popularity_is_that_of_zipf() -> None:
    """The first of four models has 12/25 of the requests, the last 3/25."""
    jobs = synthetic_jobs(FLEET, process(cv=1), 0.5, 1)
    shares = [count / len(jobs) for count in counts(jobs)]
    assert shares == pytest.approx([12 / 25, 6 / 25, 4 / 25, 3 / 25], rel=0.1)


def test_a_shift_changes_who_is_popular() -> None:
    """Over the whole run the models come closer to each other."""
    steady, shifting = (counts(synthetic_jobs(FLEET, process(shifts=n), 0.5, 3)) for n in (0, 5))
    assert steady[0] - steady[-1] > shifting[0] - shifting[-1]


def test_lengths_are_drawn_in_pairs_and_prompts_scaled() -> None:
    """A long prompt keeps its long answer."""
    jobs = synthetic_jobs(FLEET, process(requests=500), 0.5, 1)
    assert {(job.request.prompt_tokens, job.output_tokens) for job in jobs} == {(51, 10), (151, 30)}


def test_requests_are_numbered_as_they_come() -> None:
    """From tenants in turn."""
    jobs = synthetic_jobs(FLEET, process(requests=500), 0.5, 1)
    assert [job.request.index for job in jobs] == list(range(len(jobs)))
    assert jobs == sorted(jobs, key=lambda job: job.request.arrived_at)
    assert {job.request.tenant for job in jobs[:10]} == {f"tenant-{at}" for at in range(10)}


def test_a_seed_says_it_all() -> None:
    """Another seed, another workload."""
    one, same, other = (
        [job.request.arrived_at for job in synthetic_jobs(FLEET, process(requests=200), 0.5, seed)]
        for seed in (1, 1, 2)
    )
    assert one == same != other


def test_lengths_are_made_up_where_none_were_observed() -> None:
    """Exponential, of the means that the schema tells."""
    lengths = exponential_lengths()
    assert fmean(one.prompt for one in lengths) == pytest.approx(1000, rel=0.05)
    assert fmean(one.output for one in lengths) == pytest.approx(200, rel=0.05)


TRACE = """tenant,out_tokens,model,t_s,in_tokens,size_gb
ann,7,m1,30.5,100,4
bob,0,m0,10.5,0,4
"""


def test_columns_of_a_trace_may_stand_in_any_order() -> None:
    """Others are left aside; a request reads and writes at least one token."""
    assert read_trace(TRACE) == [
        Row(30.5, "m1", "ann", Tokens(100, 7)),
        Row(10.5, "m0", "bob", Tokens(1, 1)),
    ]


def test_a_trace_becomes_jobs_from_zero_on_in_order() -> None:
    """Twice as fast."""
    jobs = trace_jobs(FLEET, read_trace(TRACE), rate_scale=2.0)
    assert [(job.request.arrived_at, job.request.tenant) for job in jobs] == [(0.0, "bob"), (10.0, "ann")]


def test_any_trace_serves_for_lengths() -> None:
    """Comments at its head are left out."""
    assert read_lengths("# by somebody\n" + TRACE) == [Tokens(100, 7), Tokens(1, 1)]


@pytest.mark.parametrize(
    "text",
    [
        "\n\nt_s,tenant,model,in_tokens,out_tokens\n\n1,ann,m,2,3\n  \n",
        "t_s, tenant, model, in_tokens, out_tokens \n 1, ann , m, 2, 3\n",
        "t_s,tenant,model,in_tokens,out_tokens\r\n1,ann,m,2,3\r\n",
        '"t_s","tenant","model","in_tokens","out_tokens"\n"1","ann","m","2","3"\n',
        "t_s,tenant,model,in_tokens,out_tokens,note\n1,ann,m,2,3,so,and so\n",
    ],
)
def test_tables_are_read_as_programs_write_them(text: str) -> None:
    """Empty lines, spaces, other ends of lines, quotes, more cells than columns."""
    assert read_trace(text) == [Row(1.0, "m", "ann", Tokens(2, 3))]


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0c"])
def test_a_cell_may_hold_what_some_take_for_an_end_of_line(mark: str) -> None:
    """Only CR and LF end one."""
    assert read_trace(f"t_s,model,in_tokens,out_tokens,tenant\n1,m,2,3,a{mark}b\n")[0].tenant == f"a{mark}b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t_s,model,in_tokens\n1,m,2\n", "has no column out_tokens"),
        ("", "has no column t_s"),
        ("t_s,model,in_tokens,out_tokens\n", "holds no rows"),
        ("t_s,model,in_tokens,out_tokens\n1,m,2,3\n1,m,x,3\n", "line 3: in_tokens: 'x' is no number"),
        ("# a\nt_s,model,in_tokens,out_tokens\n-1,m,2,3\n", "line 3: t_s: '-1' is no number from 0 to 1e"),
        ("t_s,model,in_tokens,out_tokens\n1,m,2\n", "line 2: out_tokens: '' is no number"),
        ("t_s,model,in_tokens,out_tokens\n1,m,1e300,3\n", "line 2: in_tokens: '1e300' is no number from 0"),
        ("t_s,model,in_tokens,out_tokens\n1,m,nan,3\n", "line 2: in_tokens: 'nan' is no number"),
        ("t_s,model,in_tokens,out_tokens\n1,m,2,3\n# b\n\n2,m,x,3\n# c\n", "line 5: in_tokens: 'x'"),
        ("t_s;model;in_tokens;out_tokens\n1;m;2;3\n", "commas between them, not 't_s;model;in_tokens"),
        ('t_s,model,in_tokens,out_tokens\n1,"' + "m" * 200_000 + '",2,3\n', "line 2: field larger than"),
    ],
)
def test_a_wrong_table_is_told_with_its_line(text: str, message: str) -> None:
    """And the column."""
    with pytest.raises(TableError, match=message):
        read_trace(text)


def test_a_model_may_be_named_with_or_without_its_tag() -> None:
    """As Ollama takes both for one."""
    rows = [Row(0.0, name, "", Tokens(1, 1)) for name in ("m1", "M1:latest")]
    assert [row.model for row in named_as(FLEET, rows)] == ["m1", "m1"]


@pytest.mark.parametrize("name", ["m9", ""])
def test_a_model_that_the_scenario_lacks_is_named(name: str) -> None:
    """With the number of requests that ask for it."""
    rows = [Row(0.0, name, "", Tokens(1, 1))] * 3
    with pytest.raises(UnknownModelError, match=f"'{name}', which 3 of the requests ask for, is not among"):
        named_as(FLEET, rows)


def test_requests_of_one_moment_have_no_rate() -> None:
    """Said, rather than divided by zero."""
    with pytest.raises(ValueError, match="all requests come at one moment"):
        trace_rho(FLEET, [Row(3.0, "m0", "", Tokens(1, 1))])
