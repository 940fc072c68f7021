"""A machine of the test's own with a real systemd: a container of systemd-nspawn over this machine's /usr.

It has Corral installed as a service, by `corral install --systemd` itself, and shares the network, so that
clients of the test reach it. Says why where it cannot be had: not root, tools missing, not allowed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from supervisor.host.installation import own_directories
from supervisor.host.probe import free_port
from tests.support.corral import COMMAND
from tests.support.supervisor import PATIENCE_S, children_of

TOOLS: Final = ("systemd-nspawn", "systemctl", "nsenter")
BOOT_S: Final = 40.0
CONFIG: Final[dict[str, Any]] = {
    "cpu_workers": 1,
    "worker_defaults": {"engine": "embedded", "context_length": 2048},
}
DROP_IN: Final = "[Service]\nWatchdogSec=3\nTimeoutAbortSec=2\n"
"""So that a test need not wait half a minute."""
_OF_USR: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


class NotBootedError(Exception):
    """This machine lets us boot none; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The container."""

    root: Path
    leader: int
    """The pid of its systemd, as we see it."""
    port: int
    """Where its Corral listens."""

    @property
    def url(self) -> str:
        """For clients."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def _enter(self) -> tuple[str, ...]:
        return ("nsenter", f"--target={self.leader}", "--all", "--root", "--wd", "--")

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a command inside; return what it wrote."""
        done = subprocess.run(
            [*self._enter, *argv], capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False
        )
        assert done.returncode == 0 or not check, f"{argv}: {done.stderr}{done.stdout}{self.journal()}"
        return done.stdout.strip()

    def succeeds(self, *argv: str) -> bool:
        """Run a command inside; return whether it says yes."""
        return self.run("/bin/sh", "-c", '"$@" >/dev/null 2>&1; echo $?', "-", *argv, check=False) == "0"

    def systemctl(self, *arguments: str) -> str:
        """Have systemd do something with success."""
        return self.run("systemctl", *arguments)

    def show(self, name: str) -> str:
        """Return a property of the service."""
        return self.systemctl("show", "--property", name, "--value", "corral.service")

    def journal(self) -> str:
        """Return what the service has written so far."""
        argv = ("journalctl", "--no-pager", "--output=cat", "--unit=corral.service", "--unit=corral.socket")
        return subprocess.run([*self._enter, *argv], capture_output=True, text=True, check=False).stdout

    def signal_main(self, name: str) -> None:
        """Send a signal to the supervisor and nobody else."""
        self.systemctl("kill", "--kill-whom=main", f"--signal={name}", "corral.service")

    def processes(self) -> list[str]:
        """Return the pids, seen from inside, of everything that belongs to the service."""
        group = self.show("ControlGroup")
        if not group:
            return []
        return self.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs", check=False).split()


@contextmanager
def booted(directory: Path, *models: Path) -> Iterator[Machine]:
    """Boot it with Corral installed, not started, over these GGUF files; it is gone afterwards.

    Raises:
        NotBootedError: this machine does not let us.
    """
    lack = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or lack:
        raise NotBootedError(f"needs {', '.join(lack)}" if lack else "needs root")
    port = free_port(())
    root = _tree(directory / "root", port, models)
    console = directory / "console"
    with console.open("w") as output, _container(root, output) as process:
        try:
            yield Machine(root, _leader(process, console), port)
        finally:
            process.send_signal(signal.SIGTERM)
            _end(process)


@contextmanager
def _container(root: Path, output: Any) -> Iterator[subprocess.Popen[bytes]]:
    binds = [f"--bind-ro={path}" for path in ("/usr", "/etc/alternatives", *own_directories())]
    argv = ["systemd-nspawn", f"--directory={root}", f"--machine=corral-{os.getpid()}", "--quiet", "--boot"]
    argv += ["--register=no", "--keep-unit", "--link-journal=no", "--console=pipe", *dict.fromkeys(binds)]
    argv += ["systemd.unit=basic.target", "systemd.log_target=journal"]
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=os.environ
        | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},  # the older one cannot tell that a group is empty
        start_new_session=True,
    ) as process:
        yield process


def _tree(root: Path, port: int, models: tuple[Path, ...]) -> Path:
    """Make a root file system that has nothing of its own but /etc and Corral's files."""
    units = root / "etc/systemd/system"
    units.mkdir(parents=True)
    for name in _OF_USR:
        if (Path("/") / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    (root / "usr").mkdir()
    shutil.copy("/usr/lib/os-release", root / "etc/os-release")
    (root / "etc/machine-id").write_text(f"{os.urandom(16).hex()}\n")
    (units / "systemd-firstboot.service").symlink_to("/dev/null")
    _install(root, port)
    place = root / "var/lib/corral/models"
    place.mkdir(parents=True)
    for model in models:
        shutil.copy(model, place)
    return root


def _install(root: Path, port: int) -> None:
    file = root / "etc/corral/corral.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump(CONFIG | {"listen": f"127.0.0.1:{port}"}))
    subprocess.run([COMMAND, "install", "--systemd", "--root", str(root)], check=True, capture_output=True)
    drop_in = root / "etc/systemd/system/corral.service.d/test.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(DROP_IN)


def _leader(process: subprocess.Popen[bytes], console: Path) -> int:
    """Wait until its systemd has reached the target, and return its pid."""
    deadline = time.monotonic() + BOOT_S
    while process.poll() is None and time.monotonic() < deadline:
        for pid in children_of(process.pid):
            if _is_init(pid) and Machine(Path(), pid, 0).succeeds("systemctl", "is-active", "basic.target"):
                return pid
        time.sleep(0.1)
    raise NotBootedError(f"systemd-nspawn did not boot here: {console.read_text(errors='replace')[-500:]}")


def _is_init(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    (line,) = (line for line in status.splitlines() if line.startswith("NSpid:"))
    return line.split()[1:][-1] == "1" and len(line.split()) > 2


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(PATIENCE_S)
