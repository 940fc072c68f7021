"""How the progress of an operation on the stores shows: a bar for people, or JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable

import ollama

from gateway.commands.progress_bar import ProgressBar
from gateway.commands.sizes import size_in_words


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
