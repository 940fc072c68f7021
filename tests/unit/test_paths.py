from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from supervisor.contract.runtime_dir import PathError, expand, runtime_dir
from supervisor.contract.state_dir import learned_file, state_dir
from supervisor.core.cgroups import memory_limit_files, parse_limit, parse_memory_total
from supervisor.core.paths import SERVICE_STORE, Paths, PathsError, Surroundings, resolve_paths
from tests.support.machines import a_config

HOME = {"HOME": "/home/me"}


def resolved(
    tree: Mapping[str, object], environ: Mapping[str, str], *, directories: Collection[str] = ()
) -> Paths:
    """Return the paths of a file that lies in /etc/corral."""
    around = Surroundings(
        environ=environ, uid=1000, base_dir="/etc/corral", is_dir=lambda path: path in directories
    )
    return resolve_paths(a_config(tree), around)


@pytest.mark.parametrize(
    ("configured", "environ", "uid", "directory"),
    [
        ("/srv/run", {"RUNTIME_DIRECTORY": "/run/a"}, 0, "/srv/run"),
        ("~/run", HOME, 0, "/home/me/run"),
        (None, {"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/run/a"),
        (None, {"RUNTIME_DIRECTORY": "", "XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/run/user/7/corral"),
        (None, {}, 0, "/run/corral"),
        (None, {"XDG_RUNTIME_DIR": ""}, 7, "/tmp/corral-7"),
    ],
)
def test_both_programs_find_the_runtime_directory_alike(
    configured: str | None, environ: Mapping[str, str], uid: int, directory: str
) -> None:
    """The file's, systemd's, the session's, and then one of the user's own."""
    assert runtime_dir(configured, environ, uid) == directory


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~", "/home/me"),
        ("~/a", "/home/me/a"),
        ("$X/a", "/x/a"),
        ("${X}y", "/xy"),
        ("a$$b", "a$b"),
        ("/a~", "/a~"),
    ],
)
def test_paths_are_expanded_as_a_shell_would(text: str, path: str) -> None:
    """So that one file serves several users."""
    assert expand(text, {"X": "/x", **HOME}) == path


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("$NO/a", "names $NO, which is not set"),
        ("a$", "without a name behind it"),
        ("~you/a", "write you's in full"),
        ("~/a", "HOME is not set"),
    ],
)
def test_a_path_that_cannot_be_told_is_refused(text: str, reason: str) -> None:
    """An unset variable must not turn a path into another one."""
    with pytest.raises(PathError) as caught:
        expand(text, {})
    assert reason in str(caught.value)


def test_models_are_looked_for_where_ollama_keeps_them() -> None:
    """Its variable, the user's own store, and the service's when only that one is there."""
    own = "/home/me/.ollama/models"
    assert resolved({"store": "/s"}, HOME).store == "/s"
    assert resolved({}, HOME | {"OLLAMA_MODELS": "/m"}).store == "/m"
    assert resolved({}, HOME).store == own
    assert resolved({}, HOME, directories=[own, SERVICE_STORE]).store == own
    assert resolved({}, HOME, directories=[SERVICE_STORE]).store == SERVICE_STORE
    assert resolved({"gguf_dir": "/g"}, {}).store == SERVICE_STORE


def test_gguf_files_lie_in_corrals_own_data_directory() -> None:
    """Never in Ollama's."""
    assert resolved({}, HOME).gguf_dir == "/home/me/.local/share/corral/models"
    assert resolved({}, HOME | {"XDG_DATA_HOME": "/data"}).gguf_dir == "/data/corral/models"


@pytest.mark.parametrize(
    ("configured", "environ", "uid", "directory"),
    [
        ("~/state", HOME | {"STATE_DIRECTORY": "/s"}, 7, "/home/me/state"),
        (None, {"STATE_DIRECTORY": "/s/a:/s/b", "XDG_STATE_HOME": "/x"}, 7, "/s/a"),
        (None, HOME | {"STATE_DIRECTORY": "", "XDG_STATE_HOME": "/x"}, 0, "/x/corral"),
        (None, HOME, 7, "/home/me/.local/state/corral"),
        (None, HOME, 0, "/var/lib/corral"),
        (None, {"LOCALAPPDATA": "/local"}, -1, "/local/corral"),
        (None, {}, 7, "/var/lib/corral"),
    ],
)
def test_what_is_learned_is_kept_where_state_belongs(
    configured: str | None, environ: Mapping[str, str], uid: int, directory: str
) -> None:
    """The file's, systemd's, the user's own, and the system's for root and for users without a home."""
    assert state_dir(configured, environ, uid) == directory


def test_two_corrals_of_one_user_learn_into_files_of_their_own() -> None:
    """The same one at each start."""
    assert learned_file("/run/a") == learned_file("/run/a")
    assert learned_file("/run/a") != learned_file("/run/b")


def test_relative_paths_start_at_the_file() -> None:
    """Wherever the command is run from."""
    tree = {"gguf_dir": "models", "store": "../s/.", "runtime_dir": "run", "state_dir": "state"}
    paths = resolved(tree, {})
    assert paths == Paths(
        runtime_dir="/etc/corral/run",
        store="/etc/s",
        gguf_dir="/etc/corral/models",
        state_dir="/etc/corral/state",
    )


def test_all_paths_that_cannot_be_told_are_named_at_once() -> None:
    """Each with its key."""
    with pytest.raises(PathsError) as caught:
        resolved({"store": "$NO/a", "runtime_dir": "~you"}, {})
    assert [mistake.key for mistake in caught.value.mistakes] == [("runtime_dir",), ("store",), ("gguf_dir",)]


def test_memory_limits_hold_from_every_group_around_the_process() -> None:
    """A limit on a slice binds the services in it."""
    assert memory_limit_files("0::/a.slice/b.service\n") == (
        "/sys/fs/cgroup/a.slice/b.service/memory.max",
        "/sys/fs/cgroup/a.slice/memory.max",
        "/sys/fs/cgroup/memory.max",
    )
    assert memory_limit_files("5:cpu,memory:/\n3:cpuset:/x\n") == (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    )


def test_what_the_kernel_writes_of_memory_is_read() -> None:
    """`max` is no limit."""
    assert parse_limit("max\n") is None
    assert parse_limit("1024\n") == 1024
    assert parse_memory_total("MemFree: 1 kB\nMemTotal:       16 kB\n".replace("MemFree", "A")) == 16384
    with pytest.raises(ValueError, match="MemTotal"):
        parse_memory_total("")
