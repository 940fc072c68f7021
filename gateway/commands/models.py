"""`corral models`: the models that can be asked for, and which workers hold them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from gateway.commands.endpoint import add_endpoint_arguments, attempt
from gateway.commands.sizes import size_in_words
from supervisor.contract.command import EXIT_OK
from supervisor.contract.shell import terminal
from supervisor.contract.table import table

HELP = "list the models that are served and the workers that hold them"

_HEAD = ("NAME", "DIGEST", "SIZE", "FAMILY", "PARAMETERS", "QUANTIZATION", "LOADED ON")
_SPARE = ("DIGEST", "FAMILY", "QUANTIZATION")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_endpoint_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")


def run(args: argparse.Namespace) -> int:
    """Ask the running Corral and print."""
    return attempt(args, "models", lambda url: _show(url, as_json=args.json))


def _show(url: str, *, as_json: bool) -> int:
    tags, resident = _get(url, "/api/tags"), _get(url, "/api/ps")
    models = [{**row, "loaded_on": holders(row, resident)} for row in tags["models"]]
    print(json.dumps({"models": models}, indent=2) if as_json else "\n".join(_lines(models)))
    return EXIT_OK


def holders(row: Mapping[str, Any], resident: Mapping[str, Any]) -> list[str]:
    """Return the workers that hold a model, by the digest of its weights."""
    return [held.get("worker", "") for held in resident["models"] if held["digest"] == row["digest"]]


def _get(url: str, path: str) -> dict[str, Any]:
    response = httpx.get(url + path, trust_env=False, timeout=30.0)
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


def _lines(models: list[dict[str, Any]]) -> Iterator[str]:
    if not models:
        yield "No model is there yet."
        return
    yield from table([_HEAD, *map(_cells, models)], width=terminal.width(), spare=_SPARE)


def _cells(model: Mapping[str, Any]) -> tuple[str, ...]:
    details, alias_of = model.get("details") or {}, model.get("alias_of")
    return (
        f"{model['name']} -> {alias_of}" if alias_of else model["name"],
        model["digest"][:12],
        size_in_words(model.get("size") or 0),
        details.get("family") or "-",
        details.get("parameter_size") or "-",
        details.get("quantization_level") or "-",
        ", ".join(model["loaded_on"]) or "-",
    )
