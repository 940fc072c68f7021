"""`corral models`: the models that can be asked for, and which workers hold them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from gateway.commands.endpoint import add_endpoint_arguments, url_of
from gateway.commands.settings import SettingsError
from gateway.commands.sizes import size_in_words
from supervisor.contract.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from supervisor.contract.table import table

HELP = "list the models that are served and the workers that hold them"

_HEAD = ("NAME", "DIGEST", "SIZE", "FAMILY", "PARAMETERS", "QUANTIZATION", "LOADED ON")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_endpoint_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")


def run(args: argparse.Namespace) -> int:
    """Ask the running Corral and print."""
    try:
        url = url_of(args)
        tags, resident = _get(url, "/api/tags"), _get(url, "/api/ps")
    except SettingsError as error:
        print(f"corral models: {error}", file=sys.stderr)
        return EXIT_USAGE
    except httpx.HTTPError as error:
        print(f"corral models: {error}", file=sys.stderr)
        return EXIT_FAILED
    models = [{**row, "loaded_on": holders(row, resident)} for row in tags["models"]]
    print(json.dumps({"models": models}, indent=2) if args.json else "\n".join(_lines(models)))
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
    yield from table([_HEAD, *(_cells(model) for model in models)])


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
