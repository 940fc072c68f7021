"""Where Corral keeps what it has learned, across restarts of the gateway and of the machine.

Decides the directory and the file from the configuration and the environment, which are arguments. Nothing
is created or looked up here.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from posixpath import join
from typing import Final

from supervisor.contract.runtime_dir import expand

SYSTEM_STATE: Final = "/var/lib/corral"
"""For root, and where the environment tells no directory of the user's own."""


def state_dir(configured: str | None, environ: Mapping[str, str], uid: int) -> str:
    """Return the directory of what is learned.

    That is the configured one, else the first of $STATE_DIRECTORY (systemd sets it, separated by colons),
    else $XDG_STATE_HOME/corral, else /var/lib/corral for root and ~/.local/state/corral for others
    (%LOCALAPPDATA%/corral on Windows).

    Raises:
        PathError: the configured path cannot be expanded.
    """
    if configured is not None:
        return expand(configured, environ)
    by_systemd = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if by_systemd:
        return by_systemd
    base = environ.get("XDG_STATE_HOME") or _base_of_user(environ, uid)
    return join(base, "corral") if base else SYSTEM_STATE


def _base_of_user(environ: Mapping[str, str], uid: int) -> str:
    if uid == 0:
        return ""
    home = environ.get("HOME")
    return join(home, ".local/state") if home else environ.get("LOCALAPPDATA", "")


def learned_file(runtime_dir: str) -> str:
    """Return the name, in the state directory, of the file of the gateway with this runtime directory.

    Several Corrals of one user share a state directory by default and must not overwrite each other's
    file. Their runtime directories differ, because each holds its own locked, and stay the same from one
    start to the next.
    """
    return f"learned-{sha256(runtime_dir.encode()).hexdigest()[:12]}.json"
