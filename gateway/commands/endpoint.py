"""Where the running Corral serves its clients, for commands that are such clients themselves."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.commands.settings import SettingsError, directory_of, read_config
from supervisor.contract.runtime_dir import ENDPOINT


def add_endpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the running Corral is found."""
    parser.add_argument("-c", "--config", metavar="FILE", help="the file that `corral up` was started with")
    parser.add_argument("--runtime-dir", metavar="DIR", help="where its sockets are (default: the file's)")
    parser.add_argument("--url", metavar="URL", help="where it serves, on this machine or another")


def url_of(args: argparse.Namespace) -> str:
    """Return the URL for clients.

    Raises:
        SettingsError: the file is wrong, or no Corral runs there.
    """
    if args.url:
        return str(args.url)
    directory = Path(args.runtime_dir) if args.runtime_dir else _configured(args.config)
    try:
        return (directory / ENDPOINT).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"no Corral serves in {directory}; is `corral up` running?") from error


def _configured(file: str | None) -> Path:
    return directory_of(read_config(file), file)
