from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.contract.runtime_dir import LOCK
from supervisor.host.directory import DirectoryError, claim


def test_the_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    """Its sockets are nobody else's business."""
    directory = claim(tmp_path / "deep" / "run")
    assert directory.path.stat().st_mode & 0o777 == 0o700
    directory.release()


def test_a_second_claim_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    """And can be had once the first is given up."""
    first = claim(tmp_path / "run")
    with pytest.raises(DirectoryError, match=rf"another supervisor \(process {os.getpid()}\)"):
        claim(tmp_path / "run")
    first.release()
    claim(tmp_path / "run").release()


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    """They could put sockets of their own there."""
    tmp_path.chmod(0o777)
    with pytest.raises(DirectoryError, match="chmod 700"):
        claim(tmp_path)


def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """A predictable name in /tmp may be made by anybody."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(DirectoryError, match="uid 12345"):
        claim(tmp_path)


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    """Rather than failing when the socket is made."""
    with pytest.raises(DirectoryError, match="too long"):
        claim(tmp_path / ("x" * 100))


def test_a_directory_whose_lock_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """In words, as everything that keeps Corral from starting: on a full disk, say."""
    (tmp_path / LOCK).symlink_to("/dev/full")
    with pytest.raises(DirectoryError, match="Invalid argument: set another `runtime_dir`"):
        claim(tmp_path)


def test_an_endpoint_of_a_killed_supervisor_is_removed(tmp_path: Path) -> None:
    """Scripts must not read an address where nobody is."""
    (tmp_path / "endpoint").write_text("http://old\n")
    directory = claim(tmp_path)
    assert not (tmp_path / "endpoint").exists()
    directory.release()
