"""Where the running Corral serves its clients, for commands that are such clients themselves.

Decides what is said, and with which exit code, where nobody serves there or the answer is an error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import ollama

from gateway.commands.settings import SettingsError, find_directory
from supervisor.contract.command import EXIT_FAILED, EXIT_USAGE, add_place_arguments
from supervisor.contract.runtime_dir import ENDPOINT

_GIVEN_UP: Final = 130
"""What shells say of a command that was ended by Ctrl-C."""


def add_endpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the running Corral is found."""
    add_place_arguments(parser)
    parser.add_argument("--url", metavar="URL", help="where it serves, on this machine or another")


def url_of(args: argparse.Namespace) -> str:
    """Return the URL for clients.

    Raises:
        SettingsError: the file or the URL is wrong, or no Corral runs there.
    """
    if args.url:
        return _whole(args.url)
    directory = Path(args.runtime_dir) if args.runtime_dir else find_directory(args.config)
    try:
        return (directory / ENDPOINT).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"no Corral serves in {directory}; is `corral up` running?") from error


def with_client(args: argparse.Namespace, command: str, act: Callable[[ollama.Client], int]) -> int:
    """Do something with the running Corral and return the exit code."""
    return attempt(args, command, lambda url: _with_client(url, act))


def attempt(args: argparse.Namespace, command: str, act: Callable[[str], int]) -> int:
    """Do something at the URL of the running Corral and return the exit code."""
    url = ""
    try:
        url = url_of(args)
        return act(url)
    except SettingsError as error:
        return _failed(command, error, EXIT_USAGE)
    except ollama.ResponseError as error:
        return _failed(command, error.error, EXIT_FAILED)
    except (httpx.ConnectError, httpx.ConnectTimeout, ConnectionError):
        return _failed(command, f"nobody answers at {url}; is `corral up` running?", EXIT_FAILED)
    except httpx.HTTPError as error:
        return _failed(command, f"{url}: {error}", EXIT_FAILED)
    except KeyboardInterrupt:
        return _failed(command, "given up", _GIVEN_UP)


def _with_client(url: str, act: Callable[[ollama.Client], int]) -> int:
    with ollama.Client(url, trust_env=False) as client:
        return act(client)


def _failed(command: str, error: object, code: int) -> int:
    print(f"corral {command}: {error}", file=sys.stderr)
    return code


def _whole(url: str) -> str:
    """Return a URL that paths can be written behind; HOST:PORT is one of http, as in OLLAMA_HOST."""
    whole = (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        parts = urlsplit(whole)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # no port, or no address
        known = False
    if not known:
        raise SettingsError(f"--url: {url!r} is no URL such as http://127.0.0.1:11434")
    return whole
