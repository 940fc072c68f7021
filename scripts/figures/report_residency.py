"""`scripts/bench residency`: all of its measurements, one after the other, and how they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.figures.chain import chain, write_chain
from scripts.figures.prediction import deviations, predictions
from scripts.figures.residency import CORRAL, GOALS_S, LOADS, POLICIES, figures, measure
from scripts.figures.say import say
from scripts.figures.stores import import_models
from scripts.figures.zipf import write_models
from supervisor.contract.table import table

_NAMES = {"loads": "loads", "ttft_mean_s": "mean TTFT", "ttft_p95_s": "p95 TTFT"}


def residency(directory: Path, engine: str, rounds: int) -> dict[str, Any]:
    """Return all figures."""
    zipf, chained = directory / "zipf", directory / "chain"
    for name in write_models(zipf / "models"):
        say(f"writing the model {name}")
    write_chain(chained / "models")
    for place in (zipf, chained):
        (place / "store").mkdir()
        if engine == "ollama":
            say("importing models into a store")
            import_models(place / "store", sorted((place / "models").glob("*.gguf")))
    runs = list(measure(zipf, engine, rounds, say))
    of = {policy: [run for run in runs if run.policy == policy] for policy in POLICIES}
    say("predicting Corral's runs from their logs")
    prediction = predictions(directory / "prediction", of[CORRAL])
    say("a chain over three models that all fit")
    return {
        "engine": engine,
        "rounds": rounds,
        "load_s": runs[0].load_s,
        "requests_per_load": LOADS[engine].per_load,
        "policies": [figures(of[policy]) for policy in POLICIES],
        "prediction": prediction,
        "chain": chain(chained, engine),
    }


def in_words(found: dict[str, Any]) -> list[str]:
    """Return what people read."""
    head = ("POLICY", "REQUESTS", "LOADS", "TTFT P50", "P95", "MEAN", *(f"<={goal:g}s" for goal in GOALS_S))
    rows = [(*head, "LATENCY", "P95"), *map(_row, found["policies"])]
    asked = (
        f"A load takes {found['load_s']:.2f} s, and {found['requests_per_load']:g} requests come in its time."
    )
    return [asked, "", *table(rows), "", *_prediction(found["prediction"]), "", *_chain(found["chain"])]


def _row(policy: dict[str, Any]) -> tuple[str, ...]:
    ttft, latency = policy["ttft_s"], policy["latency_s"]
    return (
        policy["name"],
        str(policy["requests"]),
        str(policy["loads"]),
        *(f"{ttft[key]:.2f} s" for key in ("p50", "p95", "mean")),
        *(f"{share:.1%}" for share in policy["share_ttft_le"].values()),
        *(f"{latency[key]:.2f} s" for key in ("mean", "p95")),
    )


def _prediction(prediction: dict[str, Any]) -> list[str]:
    off = deviations(prediction)
    told = [
        f"{name} {prediction['predicted'][key]:.4g} for {prediction['measured'][key]:.4g} ({off[key]:+.0%})"
        for key, name in _NAMES.items()
    ]
    return ["Predicted from the log for measured (within 20 %):", *(f"  {one}" for one in told)]


def _chain(found: dict[str, Any]) -> list[str]:
    first, further = found["loads_in_first_round"], found["loads"] - found["loads_in_first_round"]
    times = found["first_token_ms"]
    return [
        f"Chain of three models, {found['rounds']} rounds: {first} loads in the first, {further} later (0)",
        (
            f"Switching models adds          {found['switching_adds_ms']:8.2f} ms     (at most 1; medians: "
            f"{times['after_another']:.2f} ms after another, {times['after_itself']:.2f} ms after its own)"
        ),
    ]
