"""Asks the running gateway on the operator's socket, for commands that look at it."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from gateway.commands.settings import directory_of, read_config
from supervisor.contract.runtime_dir import GATEWAY_SOCKET


class NobodyAnswersError(Exception):
    """No gateway answers there; the text says where, and what to do."""


def add_socket_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the socket is found."""
    parser.add_argument("-c", "--config", metavar="FILE", help="the file that `corral up` was started with")
    parser.add_argument("--runtime-dir", metavar="DIR", help="where its sockets are (default: the file's)")
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")


def ask_gateway(args: argparse.Namespace, path: str) -> tuple[int, dict[str, Any]]:
    """Return status and answer of a GET.

    Raises:
        SettingsError: the file is wrong.
        NobodyAnswersError: no gateway runs there, or it does not answer.
    """
    directory = args.runtime_dir or directory_of(read_config(args.config), args.config)
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
