"""`corral gateway`: the gateway, on a socket that it inherits or opens itself."""

from __future__ import annotations

import argparse
import asyncio
import errno
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from gateway import host
from gateway.app import Ports, serve
from gateway.commands.settings import SettingsError, directory_of, learned_file_of, read_config
from supervisor.contract.command import EXIT_OK, EXIT_USAGE, greeting
from supervisor.contract.config import Config
from supervisor.contract.runtime_dir import ENDPOINT
from supervisor.contract.shell.log_setup import configure

HELP: Final = "serve external workers alone, without a supervisor"
_BACKLOG: Final = 2048


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("-c", "--config", metavar="FILE", help="the configuration; without it all defaults")
    parser.add_argument("--runtime-dir", metavar="DIR", help="where the sockets are (default: the file's)")
    given = parser.add_argument_group("given by `corral up`, which starts its gateways with them")
    given.add_argument(
        "--accepted", metavar="COPY", help="read this copy of the configuration, which was found right"
    )
    given.add_argument("--fd", type=int, metavar="N", help="an inherited listening socket")
    given.add_argument(
        "--generation", type=int, default=1, metavar="N", help="which of the supervisor's gateways this is"
    )
    given.add_argument(
        "--kept", action="store_true", help="the inherited socket outlives the supervisor: systemd keeps it"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    try:
        config = read_config(args.config, args.accepted)
        directory = Path(args.runtime_dir) if args.runtime_dir else directory_of(config, args.config)
        learned = learned_file_of(config, args.config, directory)
        read = partial(read_config, args.config, args.accepted)
        if args.fd is not None:
            listener = socket.socket(fileno=args.fd)
            ports = Ports(
                listener,
                directory,
                learned_file=learned,
                generation=args.generation,
                read=read,
                is_kept=args.kept,
            )
            return _serve(config, ports, _say_nothing)
        return _serve_alone(config, directory, learned, args.config, read)
    except (SettingsError, host.DirectoryError) as error:
        print(f"corral gateway: {error}", file=sys.stderr)
        return EXIT_USAGE


def _serve_alone(
    config: Config, directory: Path, learned: Path, file: str | None, read: Callable[[], Config]
) -> int:
    """Front the external workers of the file; whoever gives no socket is no supervisor."""
    if not config.external:
        where = file or "the defaults"
        raise SettingsError(
            f"{where}: no `external` workers to serve: write some, or let `corral up` start workers"
        )
    if config.workers not in ("auto", ()):
        print(
            "corral gateway: the `workers` of the file are not started; corral up does that", file=sys.stderr
        )
    with host.claimed(directory), _open_listener(config.listen) as listener:
        url = _url_of(listener)
        with _endpoint_told(directory / ENDPOINT, url):
            ports = Ports(listener, directory, supervised=False, learned_file=learned, read=read)
            return _serve(config, ports, lambda: _greet(url))


@contextmanager
def _endpoint_told(file: Path, url: str) -> Iterator[None]:
    """Let `corral models` and `corral run` find us; where there is no runtime directory, --url does."""
    if file.parent.is_dir():
        file.write_text(f"{url}\n", encoding="utf-8")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _serve(config: Config, ports: Ports, greet: Callable[[], None]) -> int:
    configure(config.log)
    with asyncio.Runner(loop_factory=host.loop_factory()) as runner:
        runner.run(serve(config, ports, greet))
    return EXIT_OK


def _open_listener(listen: str) -> socket.socket:
    name, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if name.startswith("[") else socket.AF_INET
    try:
        return socket.create_server((name.strip("[]"), int(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"{listen} is taken: stop whoever has it, or set another `listen`") from error
        raise SettingsError(f"listen: {listen}: {error.strerror}") from error


def _url_of(listener: socket.socket) -> str:
    """Return the address for clients on this machine; where we listen everywhere, loopback."""
    name, port = listener.getsockname()[:2]
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104 -- read, not bound
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _greet(url: str) -> None:
    with suppress(OSError):  # nobody reads it, or the disk is full: the work goes on
        print(greeting(url), flush=True)


def _say_nothing() -> None:
    """The supervisor greets."""
