"""The files that make Corral a systemd service: unit, socket, user, directories.

Decides every line of them for a given installation; `deploy/systemd/` holds what it says of DEFAULT. Writes
nothing and knows no machine.

What of systemd's hardening is left out, and why:

- MemoryDenyWriteExecute: CUDA compiles kernels for the GPU it finds and runs them from memory it has written.
- PrivateDevices: it hides the GPUs. DevicePolicy=closed with a list of theirs stands in.
- ProcSubset: CUDA and engines read /proc/meminfo, /proc/cpuinfo and /proc/driver/nvidia.
- ProtectProc: who holds a port, or a GPU's memory, could not be named to the operator.
- PrivateUsers: AMD's device files belong to groups, and stores to users, that it would hide.
- @resources: workers are bound to cores, and CUDA to memory nodes.
- Delegate: nothing here makes control groups; process groups and a keeper end what must end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

CONFIG: Final = "/etc/corral/corral.yaml"
STATE: Final = "/var/lib/corral"
UNIT: Final = "/etc/systemd/system/corral.service"
SOCKET_UNIT: Final = "/etc/systemd/system/corral.socket"
SYSUSERS: Final = "/etc/sysusers.d/corral.conf"
TMPFILES: Final = "/etc/tmpfiles.d/corral.conf"
ENVIRONMENT: Final = {
    "HOME": STATE,
    "XDG_DATA_HOME": "/var/lib",
    "RUNTIME_DIRECTORY": "/run/corral",
    "STATE_DIRECTORY": STATE,
}
"""What paths of the configuration depend on, as the service sees it."""

_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 -- none is made here
"""What the service does not see of the machine, unless it is bound."""
_OF_HOMES: Final = _HIDDEN[:3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One way in which Corral lies on a machine. All paths are absolute."""

    program: str
    """The `corral` command."""
    reads: tuple[str, ...] = ()
    """What the program is made of: environment, interpreter, sources, engines."""
    writes: tuple[str, ...] = ()
    """Where models are kept, besides the state directory."""
    listen: str = "127.0.0.1:11434"
    runtime_dir: str = "/run/corral"
    groups: tuple[str, ...] = ("render", "video")
    """Groups the service's user is in: those of AMD's device files."""


DEFAULT: Final = Installation(program="/opt/corral/bin/corral", writes=("/usr/share/ollama/.ollama/models",))


def service_files(of: Installation) -> dict[str, str]:
    """Return the text of every file by its path."""
    return {
        UNIT: _unit(of),
        SOCKET_UNIT: _SOCKET.format(listen=of.listen),
        SYSUSERS: _SYSUSERS + "".join(f"m corral {group}\n" for group in of.groups),
        TMPFILES: _TMPFILES,
    }


def _unit(of: Installation) -> str:
    lines = [*_homes(of), *_bound(of), *_writable(of)]
    return _SERVICE.format(
        program=_quoted(of.program),
        config=CONFIG,
        runtime_dir=_quoted(of.runtime_dir),
        paths="".join(f"{line}\n" for line in lines),
    )


def _homes(of: Installation) -> Iterator[str]:
    """Homes are hidden; where a part of one is needed they are empty instead, so that it can be put there."""
    needs = any(_is_below(path, _OF_HOMES) for path in (*of.reads, *of.writes))
    yield f"ProtectHome={'tmpfs' if needs else 'yes'}"


def _bound(of: Installation) -> Iterator[str]:
    for path in _outermost(of.reads):
        if _is_below(path, _HIDDEN):
            yield f"BindReadOnlyPaths={_quoted(path)}"


def _writable(of: Installation) -> Iterator[str]:
    for path in _outermost(of.writes):
        if _is_below(path, _HIDDEN):
            yield f"BindPaths={_quoted(f'-{path}')}"
        elif not _is_below(path, (STATE,)):
            yield f"ReadWritePaths={_quoted(f'-{path}')}"


def _outermost(paths: tuple[str, ...]) -> list[str]:
    """Leave out what lies within another."""
    return [path for path in dict.fromkeys(paths) if not _is_below(path, tuple({*paths} - {path}))]


def _is_below(path: str, tops: tuple[str, ...]) -> bool:
    return any(f"{path}/".startswith(f"{top}/") for top in tops)


def _quoted(text: str) -> str:
    """Return a word as systemd reads it back: its specifiers and quotes are escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if any(char in " \t\"'\\;" for char in text) else escaped


_SERVICE: Final = """\
# Written by `corral install --systemd`, which replaces this file. Changes: systemctl edit corral
[Unit]
Description=Corral: one endpoint for every GPU in the box
Wants=network-online.target modprobe@nvidia_uvm.service
After=network-online.target nss-lookup.target nvidia-persistenced.service modprobe@nvidia_uvm.service
# What cannot start is given up after half a minute; what crashes now and then never is.
StartLimitIntervalSec=60
StartLimitBurst=20

[Service]
Type=notify
NotifyAccess=main
User=corral
Group=corral
# Makes the device files that an unprivileged process cannot have made.
ExecStartPre=+-/bin/sh -c 'test -e /dev/nvidia-uvm || test ! -e /proc/driver/nvidia \\
    || {{ nvidia-smi -L; nvidia-modprobe -c 0 -u; }} >/dev/null'
ExecStart={program} up --config {config}
ExecReload={program} reload --runtime-dir {runtime_dir}
Restart=always
RestartSec=1
# Corral asks for more time itself, as long as a start, reload or stop goes on.
TimeoutStartSec=120
TimeoutStopSec=60
# Fed while the event loops of supervisor and gateway turn. SIGABRT makes it say where it hung.
WatchdogSec=30
TimeoutAbortSec=10
# The supervisor ends everything in order; what is left after the time limit is killed.
KillMode=mixed
# Memory that runs out ends a worker, which is started again; the others serve on.
OOMPolicy=continue
# A stop also ends a `corral reload` that runs, by SIGTERM; that is no failure of Corral's.
SuccessExitStatus=SIGTERM
# The clients' socket outlives the process: who connects meanwhile waits instead of being refused.
FileDescriptorStoreMax=4

RuntimeDirectory=corral
RuntimeDirectoryMode=0755
StateDirectory=corral
StateDirectoryMode=0750
Environment=XDG_DATA_HOME=/var/lib
UMask=0027
LimitNOFILE=1048576
# Page-locked memory is how weights get into a GPU.
LimitMEMLOCK=infinity
LimitCORE=0

# GPUs and nothing else: NVIDIA's devices, and AMD's (kfd, drm).
DevicePolicy=closed
DeviceAllow=char-nvidia* rwm
DeviceAllow=char-drm rw
DeviceAllow=char-kfd rw

# MemoryDenyWriteExecute must stay off: CUDA compiles kernels for the GPU and runs what it has written.
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
PrivateTmp=yes
PrivateMounts=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
# Netlink is how engines list network interfaces.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
{paths}
[Install]
WantedBy=multi-user.target
"""

_SOCKET: Final = """\
# Written by `corral install --systemd`, which replaces this file. Changes: systemctl edit corral.socket
# Not needed: corral.service opens the port itself, and systemd keeps it while Corral is restarted. With
# this unit clients may connect before Corral was started, and the port may be below 1024.
[Unit]
Description=Corral's port for clients

[Socket]
# Must be what `listen` in {config} says.
ListenStream={listen}
Backlog=4096

[Install]
WantedBy=sockets.target
""".replace("{config}", CONFIG)

_SYSUSERS: Final = """\
# Written by `corral install --systemd`.
u corral - "Corral" /var/lib/corral
"""

_TMPFILES: Final = """\
# Written by `corral install --systemd`.
d /etc/corral 0755 root root -
d /var/lib/corral 0750 corral corral -
d /var/lib/corral/models 0750 corral corral -
"""
