"""Readiness, memory, slots, scaling, and what the gateway adds: `scripts/bench smoke`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from scripts.figures.running import TWO_WORKERS, pss_mb, running, write_models
from scripts.figures.say import say
from scripts.figures.stores import import_models
from scripts.figures.streams import answers_while_loading, first_token_added_ms, nine_streams, tokens_per_s

_ONLY_FIRST: list[dict[str, Any]] = [{"name": "cpu0"}, {"name": "cpu1", "models": ["nothing"]}]
"""The second worker has its core and no work, so that both runs have the first one on the same core."""


def smoke(directory: Path, engine: str) -> dict[str, Any]:
    """Return all figures; progress goes to standard error."""
    say("writing three counting models")
    write_models(directory / "models")
    if engine == "ollama":
        say("importing them into a store")
        import_models(directory / "store", sorted((directory / "models").glob("*.gguf")))
    say("two workers: readiness, first token, nine streams, tokens per second")
    with running(directory, workers=TWO_WORKERS, engine=engine) as corral:
        figures: dict[str, Any] = {
            "engine": engine,
            "ready_s": corral.ready_s,
            "first_token": asyncio.run(first_token_added_ms(corral)),
            "pss_mb": {name: pss_mb(pid) for name, pid in corral.processes().items()},
            "nine_streams": asyncio.run(nine_streams(corral)),
            "tokens_per_s_two_workers": asyncio.run(tokens_per_s(corral, streams=8)),
        }
    say("one worker: tokens per second")
    with running(directory, workers=_ONLY_FIRST, engine=engine) as corral:
        figures["tokens_per_s_one_worker"] = asyncio.run(tokens_per_s(corral, streams=8))
    say("one worker answers while the other loads")
    with running(directory, workers=TWO_WORKERS, engine=engine, max_loaded_models=1) as corral:
        figures["while_loading"] = asyncio.run(answers_while_loading(corral))
    figures["scaling"] = figures["tokens_per_s_two_workers"] / figures["tokens_per_s_one_worker"]
    return figures


def in_words(figures: dict[str, Any]) -> list[str]:
    """Return a line a figure, with what it must reach."""
    pss, streams, first = figures["pss_mb"], figures["nine_streams"], figures["first_token"]
    loading = figures["while_loading"]
    together = pss["supervisor"] + pss["gateway"]
    busy = " + ".join(map(str, streams["busy_in_workers"]))
    return [
        f"corral up to ready             {figures['ready_s']:8.2f} s      (at most 3)",
        f"supervisor + gateway, PSS      {together:8.1f} MB     (at most 130; keeper {pss['keeper']:.1f} MB)",
        f"nine streams on 2 x 4 slots    {busy:>8} run, {streams['waiting_in_gateway']} waits (4 + 4 and 1)",
        f"tokens/s, one worker           {figures['tokens_per_s_one_worker']:8.1f}",
        f"tokens/s, two workers          {figures['tokens_per_s_two_workers']:8.1f}",
        f"two workers / one              {figures['scaling']:8.2f}        (at least 1.6)",
        f"first token, gateway adds      {first['added_ms']:8.2f} ms     {_medians(first)}",
        f"answers while another loads    {loading['answers']:8}        {_meanwhile(loading)}",
    ]


def _medians(first: dict[str, float]) -> str:
    return f"(medians: {first['gateway_ms']:.2f} ms through it, {first['worker_ms']:.2f} ms straight)"


def _meanwhile(loading: dict[str, float]) -> str:
    load_s, median_ms = loading["load_ms"] / 1000, loading["median_ms"]
    return f"(in {load_s:.2f} s; median {median_ms:.1f} ms, slowest {loading['slowest_ms']:.0f} ms)"
