"""Runs `corral gateway` with what Windows lacks taken away: uvloop, fcntl, unix sockets, signal handlers.

It still runs on Linux underneath, so it shows that nothing of these is needed, and no more.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import Any, NoReturn


def lacking(*_: Any) -> NoReturn:
    """Stand for what asyncio says on Windows."""
    raise NotImplementedError


def take_away() -> None:
    """Make this interpreter poorer."""
    sys.modules.update(dict.fromkeys(["uvloop", "fcntl", "grp", "pwd"]))  # type: ignore[arg-type]  # None bars the import
    asyncio.SelectorEventLoop.add_signal_handler = lacking  # type: ignore[assignment,method-assign]  # that is the point
    for module, name in (
        (os, "getuid"),
        (os, "geteuid"),
        (os, "O_CLOEXEC"),
        (signal, "SIGHUP"),
        (socket, "TCP_USER_TIMEOUT"),
        (asyncio, "start_unix_server"),
        (asyncio, "open_unix_connection"),
    ):
        delattr(module, name)


if __name__ == "__main__":
    take_away()
    from gateway.__main__ import main

    sys.exit(main())
