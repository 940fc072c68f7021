from __future__ import annotations

import pytest

from supervisor.core.cgroups import kill_count_files, parse_kill_count
from supervisor.core.fleet import Note
from supervisor.core.memory_kills import REMEMBERED_S, MemoryKills
from supervisor.engines.symptoms import Symptom, symptom_of

GIB = 2**30


def test_nothing_is_told_of_a_worker_that_lost_nobody() -> None:
    """Nor is anything due."""
    kills = MemoryKills(computes_on_cpu=True)
    assert (kills.note(10 * GIB, 0.0), kills.next_deadline()) == (Note(), None)


def test_each_end_costs_a_cpu_worker_a_fifth_of_what_it_has_left() -> None:
    """But never more than three fifths of all."""
    kills, shares = MemoryKills(computes_on_cpu=True), []
    for at in range(6):
        kills.killed(float(at))
        shares.append(round(1 - kills.note(10 * GIB, float(at)).withheld_bytes / (10 * GIB), 2))
    assert shares == [0.8, 0.64, 0.51, 0.41, 0.4, 0.4]


def test_ends_are_forgotten_after_an_hour_each() -> None:
    """The deadline names the moment, and memory comes back."""
    kills = MemoryKills(computes_on_cpu=True)
    kills.killed(0.0)
    kills.killed(600.0)
    assert "2 times within an hour" in kills.note(10 * GIB, 600.0).text
    assert kills.next_deadline() == REMEMBERED_S
    assert kills.note(10 * GIB, REMEMBERED_S).withheld_bytes == pytest.approx(2 * GIB)
    assert kills.note(10 * GIB, REMEMBERED_S + 600.0) == Note()


def test_a_gpu_workers_models_keep_their_memory() -> None:
    """It lies elsewhere; what happened is told."""
    kills = MemoryKills(computes_on_cpu=False)
    kills.killed(0.0)
    assert kills.note(10 * GIB, 0.0) == Note(
        "the kernel killed a process of it once within an hour because memory ran out"
    )


@pytest.mark.parametrize(
    ("self_cgroup", "files"),
    [
        ("0::/a/b\n", ("/sys/fs/cgroup/a/b/memory.events", "/proc/vmstat")),
        (
            "4:memory:/a\n0::/\n",
            ("/sys/fs/cgroup/memory/a/memory.oom_control", "/sys/fs/cgroup/memory.events", "/proc/vmstat"),
        ),
        ("", ("/proc/vmstat",)),
    ],
    ids=["version 2", "version 1", "none"],
)
def test_the_own_group_counts_before_the_machine(self_cgroup: str, files: tuple[str, ...]) -> None:
    """Another container's dead are none of ours."""
    assert kill_count_files(self_cgroup) == files


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("low 0\noom 1\noom_kill 7\noom_group_kill 2\n", 7),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),
        ("oom_kill_disable 0\n", None),
        ("", None),
    ],
)
def test_the_count_is_read_from_all_kinds_of_files(text: str, count: int | None) -> None:
    """Version 2, version 1, an old kernel's, none."""
    assert parse_kill_count(text) == count


@pytest.mark.parametrize(
    ("line", "symptom"),
    [
        (
            'time=x level=INFO source=types.go:60 msg="inference compute" id=cpu library=cpu compute=""',
            Symptom.NO_GPU,
        ),
        (
            'time=x level=INFO source=types.go:42 msg="inference compute" id=GPU-1 library=CUDA compute=8.9',
            None,
        ),
        ('time=x level=ERROR msg="llama runner terminated" error="signal: killed"', Symptom.RUNNER_DIED),
        ('{"event": "runner_gone", "exit_code": -9, "model": "m"}', Symptom.RUNNER_DIED),
        ('{"event":"loaded","model":"m"}', None),
    ],
)
def test_engines_say_in_their_logs_what_they_do_not_answer(line: str, symptom: Symptom | None) -> None:
    """On what they compute, and that a runner died."""
    assert symptom_of(line) is symptom
