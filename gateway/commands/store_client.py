"""What the commands that change the stores have in common: the running Corral, and how its progress shows."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable

import httpx
import ollama

from gateway.commands.endpoint import url_of
from gateway.commands.progress_bar import ProgressBar
from gateway.commands.settings import SettingsError
from gateway.commands.sizes import size_in_words
from supervisor.contract.command import EXIT_FAILED, EXIT_USAGE

_GIVEN_UP = 130
"""What shells say of a command that was ended by Ctrl-C."""


def with_client(args: argparse.Namespace, command: str, act: Callable[[ollama.Client], int]) -> int:
    """Do something with the running Corral and return the exit code."""
    try:
        client = ollama.Client(url_of(args), trust_env=False)
    except SettingsError as error:
        return _failed(command, error, EXIT_USAGE)
    with client:
        try:
            return act(client)
        except SettingsError as error:
            return _failed(command, error, EXIT_USAGE)
        except ollama.ResponseError as error:
            return _failed(command, error.error, EXIT_FAILED)
        except (httpx.HTTPError, ConnectionError) as error:
            return _failed(command, error, EXIT_FAILED)
        except KeyboardInterrupt:
            return _failed(command, "given up", _GIVEN_UP)


def _failed(command: str, error: object, code: int) -> int:
    print(f"corral {command}: {error}", file=sys.stderr)
    return code


def follow(progress: Iterable[ollama.ProgressResponse], *, as_json: bool) -> None:
    """Show the progress of an operation until it ends: a bar, or a JSON object a line.

    Raises:
        ollama.ResponseError: it failed.
    """
    bar = ProgressBar()
    try:
        for step in progress:
            if as_json:
                print(json.dumps(step.model_dump(exclude_none=True)), flush=True)
            elif step.total:
                bar.draw(step.completed or 0, step.total, _words(step))
            else:
                bar.say(step.status or "")
    finally:
        bar.end()


def _words(step: ollama.ProgressResponse) -> str:
    done, total = step.completed or 0, step.total or 0
    percent = 100 * done // total
    return f"{percent:3d} % of {size_in_words(total)}  {step.status or ''}"
