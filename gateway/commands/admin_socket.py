"""Asks the running gateway on the operator's socket, for commands that look at it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import aiohttp

from gateway.commands.settings import SettingsError, find_directory
from supervisor.contract.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE, add_place_arguments
from supervisor.contract.runtime_dir import GATEWAY_SOCKET


class NobodyAnswersError(Exception):
    """No gateway answers there; the text says where, and what to do."""


def add_socket_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the socket is found."""
    add_place_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")


def show_answer(
    args: argparse.Namespace, command: str, path: str, in_words: Callable[[Any], Iterable[str]]
) -> int:
    """Print the answer to a GET, as JSON or in the lines of `in_words`, and return the exit code."""
    try:
        _, answer = ask_gateway(args, path)
    except SettingsError as error:
        print(f"corral {command}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except NobodyAnswersError as error:
        print(f"corral {command}: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(json.dumps(answer, indent=2) if args.json else "\n".join(in_words(answer)))
    return EXIT_OK


def ask_gateway(args: argparse.Namespace, path: str) -> tuple[int, dict[str, Any]]:
    """Return status and answer of a GET.

    Raises:
        SettingsError: the file does not tell where.
        NobodyAnswersError: no gateway runs there, or it does not answer.
    """
    directory = args.runtime_dir or find_directory(args.config)
    socket_path = Path(directory) / GATEWAY_SOCKET
    try:
        return asyncio.run(_get(str(socket_path), path))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise NobodyAnswersError(f"nobody answers on {socket_path}; is `corral up` running?") from error


async def _get(socket_path: str, path: str) -> tuple[int, dict[str, Any]]:
    timeout = aiohttp.ClientTimeout(total=10)
    connector = aiohttp.UnixConnector(socket_path)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        session.get(f"http://corral{path}") as response,
    ):
        answer: dict[str, Any] = await response.json()
        return response.status, answer
