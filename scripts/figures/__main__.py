"""Measures a Corral on this machine.

smoke: readiness, memory, slots, scaling, and what the gateway adds. residency: Corral's policy against a
central queue with LRU eviction and against plain least-connections on the same two workers, interleaved;
what `corral simulate` predicts of it from the log; and a chain over three models that all fit. scheduler:
how long a decision takes in a fleet of 1000 workers and 1000 models, and a million simulated requests.
chaos: requests of real clients through faults; exit code 1 if one was refused, lost or broken in silence,
or if anything is left over.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from scripts.figures import report_residency, report_scheduler, smoke
from scripts.figures.say import say


class _Bench(NamedTuple):
    measure: Callable[[Path, argparse.Namespace], dict[str, Any]]
    in_words: Callable[[dict[str, Any]], list[str]]


def _chaos(directory: Path, args: argparse.Namespace) -> dict[str, Any]:
    from scripts.figures.chaos import chaos  # noqa: PLC0415 -- needs clients that other benches do without

    requests, faults = (
        (chaos.QUICK_REQUESTS, chaos.QUICK_FAULTS) if args.quick else (chaos.REQUESTS, chaos.FAULTS)
    )
    size = chaos.Size(seed=args.seed, requests=args.requests or requests, faults=args.faults or faults)
    return chaos.chaos(directory, args.engine, size)


def _chaos_in_words(figures: dict[str, Any]) -> list[str]:
    from scripts.figures.chaos import report  # noqa: PLC0415 -- the same

    return report.in_words(figures)


_BENCHES = {
    "smoke": _Bench(lambda directory, args: smoke.smoke(directory, args.engine), smoke.in_words),
    "residency": _Bench(
        lambda directory, args: report_residency.residency(directory, args.engine, args.rounds),
        report_residency.in_words,
    ),
    "scheduler": _Bench(
        lambda directory, args: report_scheduler.scheduler(directory, quick=args.quick),
        report_scheduler.in_words,
    ),
    "chaos": _Bench(_chaos, _chaos_in_words),
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=_BENCHES, help="what to measure")
    parser.add_argument(
        "--engine",
        choices=["embedded", "ollama"],
        default="embedded",
        help="what the workers run (smoke, residency, chaos)",
    )
    parser.add_argument(
        "--rounds", type=_whole, default=3, metavar="N", help="of all three policies (residency; default: 3)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="simulate 100,000 requests and extrapolate (scheduler); 600 requests and 6 faults (chaos)",
    )
    parser.add_argument(
        "--requests", type=_whole, metavar="N", help="how many are asked (chaos; default: 10000)"
    )
    parser.add_argument("--faults", type=_whole, metavar="N", help="how many happen (chaos; default: 20)")
    parser.add_argument(
        "--seed", type=_whole, default=1, metavar="N", help="of requests and faults (chaos; default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")
    args = parser.parse_args()
    bench = _BENCHES[args.what]
    with tempfile.TemporaryDirectory(prefix="corral-bench-") as directory:
        figures = bench.measure(Path(directory), args)
    say("done")
    print(json.dumps(figures, indent=2) if args.json else "\n".join(bench.in_words(figures)))
    return 1 if figures.get("missed") else 0


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
