"""`corral up`: the whole of Corral in the foreground, until a signal ends it.

Decides what is checked before anything is started, and what people are told. Every problem that is found
is one sentence on standard error, and then nothing was started (exit code 2).
"""

from __future__ import annotations

import faulthandler
import os
import socket
import sys
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from supervisor import app
from supervisor.contract.command import EXIT_USAGE, greeting
from supervisor.contract.shell.log_setup import configure
from supervisor.contract.yaml_config import ConfigError
from supervisor.core.notifications import not_started
from supervisor.engines.registry import ENGINES
from supervisor.host.directory import DirectoryError, RuntimeDirectory, claim
from supervisor.host.hangups import hold_hangups
from supervisor.host.inherited import keep, passed_sockets, take_listener
from supervisor.host.listener import ListenError, PortTakenError, open_listener, open_next_free
from supervisor.host.notify import NotifySocket, notify_socket
from supervisor.preflight import Preflight, preflight

HELP: Final = "run the workers and the gateway until Ctrl-C"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare --config and --next-free-port."""
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="YAML file (default: all defaults)")
    parser.add_argument(
        "--next-free-port",
        action="store_true",
        help="where the port is taken, say by whom and listen on the next free one",
    )


def run(args: Namespace) -> int:
    """Check everything, then run; return 0 after a signal, 2 where nothing could be started."""
    faulthandler.enable()  # SIGABRT, which systemd's watchdog sends, then says where it hung
    hold_hangups()
    try:
        setup = _set_up(preflight(args.config, engines=ENGINES), args)
    except ConfigError as error:
        _complain(str(error))
        return EXIT_USAGE
    return EXIT_USAGE if setup is None else app.run(setup, greet=_greet)


def _set_up(found: Preflight, args: Namespace) -> app.Setup | None:
    """Take the directory and the port; None where one of them could not be had, after saying why."""
    configure(found.config.log)
    for note in found.notes:
        with suppress(OSError):
            sys.stderr.write(f"note: {note}\n")
    directory = _claim(found)
    systemd = notify_socket(os.environ)
    listener = _listen(found.config.listen, systemd, next_free=args.next_free_port)
    if directory is None or listener is None or not _accept(found, directory):
        return None
    return app.Setup(
        specs=found.workers,
        config=found.config,
        reread=partial(preflight, args.config, engines=ENGINES),
        worker_timings=app.worker_timings(found.config),
        engines=ENGINES,
        listener=listener,
        directory=directory,
        config_file=None if args.config is None else str(args.config.absolute()),
        systemd=systemd,
    )


def _claim(found: Preflight) -> RuntimeDirectory | None:
    try:
        return claim(Path(found.paths.runtime_dir))
    except DirectoryError as error:
        _complain(str(error))
        return None


def _accept(found: Preflight, directory: RuntimeDirectory) -> bool:
    """Keep the file for gateways, which may start while it is being edited."""
    try:
        directory.write_accepted(found.text)
    except OSError as error:
        _complain(f"{directory.path} cannot be written to: {error.strerror}: set another `runtime_dir`")
        return False
    return True


def _listen(listen: str, systemd: NotifySocket, *, next_free: bool) -> socket.socket | None:
    """Take the socket from systemd if it has one for us; otherwise open one, for it to keep."""
    try:
        inherited = take_listener(listen, passed_sockets(os.environ), systemd)
        if inherited is not None:
            return inherited
        return keep(_open_some(listen) if next_free else open_listener(listen), systemd)
    except ListenError as error:
        _complain(str(error))
        return None


def _open_some(listen: str) -> socket.socket:
    try:
        return open_listener(listen)
    except PortTakenError as taken:
        listener = open_next_free(listen)
        sys.stderr.write(f"{taken}; taking port {listener.getsockname()[1]} for now\n")
        return listener


def _complain(reason: str) -> None:
    """Say why nothing was started, also where `systemctl status` shows it."""
    notify_socket(os.environ).send(not_started(reason))
    with suppress(OSError):
        sys.stderr.write(f"{reason}\n")


def _greet(url: str) -> None:
    with suppress(OSError):  # nobody reads it, or the disk is full: the work goes on
        sys.stdout.write(f"{greeting(url)}\n")
        sys.stdout.flush()
