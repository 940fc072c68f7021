"""`corral simulate`: what policies and fleets would make of a workload, without a GPU."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from statistics import fmean
from typing import Any, Final, NamedTuple

from gateway.commands.progress_bar import ProgressBar
from gateway.commands.simulate_inputs import (
    InputError,
    ScenarioFile,
    fitted_scenario,
    read_request_log,
    read_scenario,
    study_of,
)
from gateway.simulate.overrides import Overrides
from gateway.simulate.policies.registry import CORRAL, POLICY_NAMES
from gateway.simulate.report import HEAD, Figures, as_json, as_row, mean_figures, percentile
from gateway.simulate.request_log import LogReading
from gateway.simulate.study import Finding, Study, find
from gateway.simulate.workload import NoRateError, NoRequestsError
from supervisor.contract.command import EXIT_OK, EXIT_USAGE
from supervisor.contract.shell import terminal
from supervisor.contract.table import table

HELP = "simulate policies and fleets on a workload, or on a log of real requests"

_DESCRIPTION = """\
Simulates a box of GPUs under a workload, request by request, with the gateway's own scheduler or with a
policy that others use, on a hardware model whose every constant stands in the scenario file. The same
arguments give the same output. Scenarios to begin with: configs/scenarios/.

RHO is the offered load: the GPU time that the requests take with all batches full and nothing to load, by
the time there is. CAPACITY is the largest RHO from 0.02 to 1 (to 0.01) at which 90 % of the requests have
a time to first token (TTFT) of at most 10 s; a trace is replayed faster or slower to find it. The first
tenth of the requests is left out of all figures but the loads. JAIN tells how evenly tenants wait: Jain's
index of their mean TTFT, 1 when all wait alike. zero-swap is a ceiling: every model resident everywhere.
"""

_EPILOG = """\
examples:
  corral simulate configs/scenarios/b.yaml --policy all
  corral simulate configs/scenarios/b.yaml --policy corral --policy zero-swap --capacity --seeds 9
  corral simulate --fit corral.log > mine.yaml                the fleet, as the log shows it
  corral simulate mine.yaml --from-log corral.log             what the simulator makes of real requests
  corral simulate mine.yaml --from-log corral.log --workers 5 --slots 8      ... had I more
"""
_ALL: Final = "all"
_SPARE: Final = ("JAIN", "MAX WAIT", "TTFT<=5s", "LOADS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "scenario", nargs="?", metavar="SCENARIO.yaml", help="workers, models, hardware and workload"
    )
    parser.add_argument(
        "--fit",
        metavar="FILE",
        help="print a scenario whose fleet, models and speeds are fitted to the gateway's log, and end",
    )
    parser.add_argument(
        "--policy",
        action="append",
        choices=(*POLICY_NAMES, _ALL),
        metavar="NAME",
        help=f"one of {', '.join(POLICY_NAMES)}, or all; may be repeated (default: {CORRAL})",
    )
    parser.add_argument("--capacity", action="store_true", help="also find each policy's capacity")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="begin with this seed (default: the scenario's)"
    )
    parser.add_argument(
        "--seeds",
        type=_count,
        default=1,
        metavar="N",
        help="take the mean over N seeds, from the first on (a trace stays the same)",
    )
    parser.add_argument("--rho", type=_positive, help="offered load (default: the scenario's)")
    parser.add_argument("--requests", type=_count, metavar="N", help="requests of a synthetic workload")
    parser.add_argument(
        "--from-log",
        metavar="FILE",
        help="replay the gateway's log (JSON lines; - is standard input) in place of the scenario's workload",
    )
    parser.add_argument("--workers", type=_count, metavar="N", help="so many workers")
    parser.add_argument("--slots", type=_count, metavar="N", help="so many slots for every model")
    parser.add_argument("--vram", type=_positive, metavar="GB", help="so much memory for every worker")
    parser.add_argument("--jobs", type=_count, metavar="N", help="processes at once (default: one per core)")
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def run(args: argparse.Namespace) -> int:
    """Read, simulate and print."""
    if (args.scenario is None) == (args.fit is None):
        print("corral simulate: give a SCENARIO.yaml, or --fit FILE alone", file=sys.stderr)
        return EXIT_USAGE
    try:
        if args.fit is not None:
            print("\n".join(fitted_scenario(args.fit)))
            return EXIT_OK
        source = read_scenario(args.scenario)
        log = None if args.from_log is None else (args.from_log, read_request_log(args.from_log))
        study = study_of(source, _overrides(args), rho=args.rho, log=log)
    except InputError as error:
        print(f"corral simulate: {error}", file=sys.stderr)
        return EXIT_USAGE
    try:
        results = _results(study, _tasks(args, source), jobs=args.jobs, with_capacity=args.capacity)
    except (NoRateError, NoRequestsError) as error:
        print(f"corral simulate: {args.from_log or args.scenario}: {error}", file=sys.stderr)
        return EXIT_USAGE
    if args.json:
        print(json.dumps(_report(results, log and log[1]), indent=2))
        return EXIT_OK
    if log is not None:
        print(_about_log(log[1]))
    print(_about_study(study))
    print()
    print(
        "\n".join(
            table([HEAD, *(as_row(*result) for result in results)], width=terminal.width(), spare=_SPARE)
        )
    )
    return EXIT_OK


def _overrides(args: argparse.Namespace) -> Overrides:
    return Overrides(workers=args.workers, slots=args.slots, vram_gb=args.vram, requests=args.requests)


class _Task(NamedTuple):
    policy: str
    seed: int


def _tasks(args: argparse.Namespace, source: ScenarioFile) -> list[_Task]:
    chosen = args.policy or [CORRAL]
    policies = POLICY_NAMES if _ALL in chosen else tuple(dict.fromkeys(chosen))
    first = source.seed if args.seed is None else args.seed
    return [_Task(policy, seed) for policy in policies for seed in range(first, first + args.seeds)]


_Result = tuple[str, float | None, Figures]
"""A policy, its capacity if it was asked for, and its figures."""


def _results(study: Study, tasks: list[_Task], *, jobs: int | None, with_capacity: bool) -> list[_Result]:
    found = dict(_findings(study, tasks, jobs or _cores(), with_capacity=with_capacity))
    results: list[_Result] = []
    for policy in dict.fromkeys(task.policy for task in tasks):
        ours = [found[task] for task in tasks if task.policy == policy]
        capacities = [one.capacity for one in ours if one.capacity is not None]
        mean = fmean(capacities) if capacities else None
        results.append((policy, mean, mean_figures([one.figures for one in ours])))
    return results


def _findings(
    study: Study, tasks: Sequence[_Task], jobs: int, *, with_capacity: bool
) -> Iterator[tuple[_Task, Finding]]:
    """Run the tasks in so many processes and show how far they are; as they end."""
    bar = _Progress(len(tasks))
    if jobs == 1 or len(tasks) == 1:
        for task in tasks:
            yield task, find(study, *task, with_capacity=with_capacity)
            bar.advance(task)
    else:
        with ProcessPoolExecutor(min(jobs, len(tasks)), initializer=_end_when_interrupted) as pool:
            under_way: dict[Future[Finding], _Task] = {
                pool.submit(find, study, *task, with_capacity=with_capacity): task for task in tasks
            }
            for future in as_completed(under_way):
                yield under_way[future], future.result()
                bar.advance(under_way[future])
    bar.end()


def _end_when_interrupted() -> None:
    """Let Ctrl-C end this process at once and without a word: the parent speaks."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class _Progress:
    """How many tasks are done, as a bar."""

    def __init__(self, total: int) -> None:
        self._bar = ProgressBar()
        self._total = total
        self._done = 0
        self._draw("")

    def advance(self, task: _Task) -> None:
        """Count one more that is done."""
        self._done += 1
        self._draw(f"{task.policy}, seed {task.seed}")

    def end(self) -> None:
        """Leave a clean line."""
        self._bar.end()

    def _draw(self, what: str) -> None:
        self._bar.draw(self._done, self._total, f"{self._done}/{self._total} {what}")


def _cores() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return usable or 1


def _report(results: list[_Result], log: LogReading | None) -> dict[str, Any]:
    report: dict[str, Any] = {"policies": [as_json(*result) for result in results]}
    if log is not None:
        report["log"] = {
            "requests": len(log.rows),
            "skipped": dict(sorted(log.skipped.items())),
            "measured_ttft_s": _measured(log),
        }
    return report


def _measured(log: LogReading) -> dict[str, float] | None:
    """Return what the log itself says of times to first byte."""
    ttft = sorted(log.ttft_s)
    if not ttft:
        return None
    return {f"p{share}": round(percentile(ttft, share / 100), 4) for share in (50, 95, 99)}


def _about_study(study: Study) -> str:
    fleet = study.fleet
    load = "All requests at once" if study.rho is None else f"Offered load {study.rho:.2f}"
    workers = f"{len(fleet.workers)} worker{'s' * (len(fleet.workers) > 1)}"
    return f"{load} on {workers}, {len(fleet.models)} model{'s' * (len(fleet.models) > 1)}."


def _about_log(log: LogReading) -> str:
    skipped: Counter[str] = log.skipped
    lines = [f"{len(log.rows)} requests of the log are replayed, {skipped.total()} lines left aside."]
    lines += [f"  {count} {reason}" for reason, count in sorted(skipped.items())]
    measured = _measured(log)
    if measured is not None:
        times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in measured.items())
        told = len(log.ttft_s)
        whose = "all of them" if told == len(log.rows) else f"the {told} that tell it, being streamed"
        lines.append(f"Measured time to first byte of {whose}: {times}.")
    return "\n".join(lines)
