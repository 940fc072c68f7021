from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.core.install_plan import Action, notes, plan_files
from supervisor.core.paths import SERVICE_STORE
from supervisor.core.service_files import (
    CONFIG,
    DEFAULT,
    SOCKET_UNIT,
    SYSUSERS,
    TMPFILES,
    UNIT,
    Installation,
    service_files,
)

DEPLOY = Path(__file__).parents[2] / "deploy/systemd"


def unit(**of: object) -> list[str]:
    """The lines of the unit for such an installation."""
    told: dict[str, object] = {"program": "/opt/corral/bin/corral", **of}
    return service_files(Installation(**told))[UNIT].splitlines()  # type: ignore[arg-type]  # as each test says


@pytest.mark.parametrize(
    ("path", "shipped"),
    [
        (UNIT, "corral.service"),
        (SOCKET_UNIT, "corral.socket"),
        (SYSUSERS, "sysusers.d/corral.conf"),
        (TMPFILES, "tmpfiles.d/corral.conf"),
    ],
)
def test_what_is_shipped_is_what_is_installed(path: str, shipped: str) -> None:
    """For packages: the files in deploy/systemd are those of an installation below /opt/corral."""
    assert (DEPLOY / shipped).read_text() == service_files(DEFAULT)[path]


def test_homes_are_hidden_where_nothing_of_them_is_needed() -> None:
    """No file of a user is any of its business."""
    assert "ProtectHome=yes" in unit(reads=("/opt/corral", "/usr"))


def test_an_environment_in_a_home_is_all_of_it_that_is_seen() -> None:
    """An empty home with the environment, its interpreter and its sources in it, which cannot be changed."""
    lines = unit(
        program="/home/ann/corral/.venv/bin/corral",
        reads=("/home/ann/corral/.venv", "/home/ann/.pyenv/3.12", "/home/ann/corral"),
    )
    assert "ProtectHome=tmpfs" in lines
    bound = [line for line in lines if line.startswith("Bind")]
    assert bound == ["BindReadOnlyPaths=/home/ann/.pyenv/3.12", "BindReadOnlyPaths=/home/ann/corral"]


def test_stores_can_be_written_to_and_nothing_else() -> None:
    """Outside the state directory; one that is missing does not keep the service from starting."""
    lines = unit(writes=("/data/models", "/home/ann/models", "/var/lib/corral/models"))
    assert "ReadWritePaths=-/data/models" in lines
    assert "BindPaths=-/home/ann/models" in lines
    assert not [line for line in lines if "/var/lib/corral/models" in line]


def test_odd_paths_are_written_so_that_systemd_reads_them() -> None:
    """Its specifiers, its variables and blanks."""
    (start,) = (line for line in unit(program="/opt/my 100%/$x/corral") if line.startswith("ExecStart="))
    assert start.startswith('ExecStart="/opt/my 100%%/$$x/corral" up ')


def test_the_user_may_read_what_others_installed() -> None:
    """Groups that are there on this machine."""
    assert "m corral ollama\n" in service_files(Installation(program="/x", groups=("ollama",)))[SYSUSERS]


FILES = {UNIT: "new unit", SOCKET_UNIT: "socket"}


def test_missing_files_are_written_and_others_replaced() -> None:
    """What has not changed is not touched."""
    planned = plan_files(FILES, "config", {UNIT: "old unit", SOCKET_UNIT: "socket", CONFIG: None})
    assert [(file.path, file.action) for file in planned] == [
        (UNIT, Action.REPLACE),
        (SOCKET_UNIT, Action.UNCHANGED),
        (CONFIG, Action.WRITE),
    ]


def test_the_operators_configuration_is_kept() -> None:
    """Even where it is empty."""
    planned = plan_files(FILES, "config", {UNIT: None, SOCKET_UNIT: None, CONFIG: ""})
    assert (planned[-1].action, planned[-1].text, planned[-1].is_written) == (Action.KEEP, "", False)


def test_an_active_ollama_is_named_with_what_to_do() -> None:
    """It has the port, and memory that Corral counts on; its store is no other reason to worry."""
    told = notes(ollama_runs=True, reads_service_store=True)
    assert "systemctl disable --now ollama" in told[0]
    assert f"chmod -R g+rwX {SERVICE_STORE}" in told[1]
    assert notes(ollama_runs=False, reads_service_store=False) == ()
