"""Where the sockets between supervisor, gateway and `corral ps` lie.

Decides the directory from the configuration and the environment, which are arguments: both programs must
come to the same answer on their own. Nothing is created or looked up here.
"""

from __future__ import annotations

from collections.abc import Mapping
from posixpath import join
from string import Template
from typing import Final

SUPERVISOR_SOCKET: Final = "supervisor.sock"
"""Unix socket in the runtime directory on which the supervisor sends fleet snapshots."""
GATEWAY_SOCKET: Final = "gateway.sock"
"""Unix socket in the runtime directory on which the gateway answers administration."""
CONTROL_SOCKET: Final = "control.sock"
"""Unix socket in the runtime directory on which the supervisor answers operators (`corral reload`, ...)."""
ACCEPTED: Final = "accepted.yaml"
"""File in the runtime directory that holds the configuration that was accepted last, word for word: a gateway
that starts while the file itself is being edited reads this."""
FORWARD_SOCKET: Final = "forward.sock"
"""Unix socket in the runtime directory on which the gateway answers what an older one passes on to it."""
HANDOVER_SOCKET: Final = "handover.sock"
"""Unix socket in the runtime directory on which a gateway hands over. Always `numbered`."""
LOCK: Final = "supervisor.lock"
"""File in the runtime directory that whoever uses it holds locked: a supervisor, or a gateway alone."""

ENDPOINT: Final = "endpoint"
"""File in the runtime directory that holds the URL for clients as long as Corral runs."""


def numbered(socket: str, generation: int) -> str:
    """Return what a socket of one gateway is called: during an upgrade there are two gateways.

    The name without a number is another name for the newest gateway's.
    """
    stem, dot, suffix = socket.rpartition(".")
    return f"{stem}.{generation}{dot}{suffix}"


class PathError(ValueError):
    """A path that cannot be told: it names a variable that is not set, or needs a HOME that is not."""


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Return a path of the file with `~`, `$NAME` and `${NAME}` filled in; `$$` is a dollar sign.

    Raises:
        PathError: a variable is not set, `$` is followed by no name, or `~NAME` was written.
    """
    try:
        path = Template(text).substitute(environ)
    except KeyError as error:
        raise PathError(f"{text!r} names ${error.args[0]}, which is not set") from error
    except ValueError as error:
        raise PathError(f"{text!r} has a $ without a name behind it; write $$ for a dollar sign") from error
    first, slash, rest = path.partition("/")
    if not first.startswith("~"):
        return path
    if first != "~":
        raise PathError(f"{text!r}: only one's own home can be written with ~; write {first[1:]}'s in full")
    return home(environ) + slash + rest


def home(environ: Mapping[str, str]) -> str:
    """Return $HOME.

    Raises:
        PathError: it is not set.
    """
    directory = environ.get("HOME")
    if not directory:
        raise PathError("HOME is not set; set it, or write the paths in the configuration file in full")
    return directory


def runtime_dir(configured: str | None, environ: Mapping[str, str], uid: int) -> str:
    """Return the directory of the sockets.

    That is the configured one, else the first of $RUNTIME_DIRECTORY (systemd sets it, separated by
    colons), else $XDG_RUNTIME_DIR/corral, else /run/corral for root and /tmp/corral-UID for others.

    Raises:
        PathError: the configured path cannot be expanded.
    """
    if configured is not None:
        return expand(configured, environ)
    by_systemd = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if by_systemd:
        return by_systemd
    of_session = environ.get("XDG_RUNTIME_DIR")
    if of_session:
        return join(of_session, "corral")
    return "/run/corral" if uid == 0 else f"/tmp/corral-{uid}"  # noqa: S108 -- made 0700 and its owner checked
