"""Faults planted into the worker machine, each of which its promises must notice."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from supervisor.core import worker
from tests.support.worker_life import life_of

SOURCE: Final = Path(worker.__file__).read_text()
NAME: Final = "worker_with_a_seeded_fault"
QUICK: Final = settings(
    max_examples=300,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
HUNT: Final = settings(QUICK, max_examples=5000)
"""A fault ends it: which histories come first depends on all that is imported."""

FAULTS: Final = {
    "no SIGKILL": ("(_S.STOPPING,    DeadlinePassed): Row(_M._kill),", ""),
    "crash unseen": ("(_S.READY,       Exited):         Row(_M._exited,      _GONE),", ""),
    "restarts after stop": (
        "if not self.wanted:\n            self._move",
        "if False:\n            self._move",
    ),
    "never restarted": ("self._move(state, now + restart.delay_s", "self._move(state, None"),
    "start timeout lost": ("now + self.timings.start_timeout_s", "None"),
    "kill only once": ("self.deadline = now + self.timings.stop_timeout_s\n", ""),
    "asked restart counts as crash": ("elif self._asked:", "elif False:"),
    "asked for ever": ("self._asked, self._probe_failures = False, 0", "self._probe_failures = 0"),
    "probe failures outlive the process": (
        "self._asked, self._probe_failures = False, 0",
        "self._asked = False",
    ),
    "never forgiven": ("(_S.READY,       DeadlinePassed): Row(_M._proved_stable),", ""),
    "forgiven when ready": (
        "stained = bool(self.crashes) or self.on_probation",
        "self._forgive()\n        stained = False",
    ),
    "probation forgotten": (
        "self.on_probation = self.on_probation or self.state is WorkerState.QUARANTINED",
        "",
    ),
    "wish lost while stopping": ("(_S.STOPPING,    StartRequested): Row(_M._want),", ""),
    "stop lost while stopping": ("(_S.STOPPING,    StopRequested):  Row(_M._unwant),", ""),
    "stop lost in backoff": ("(_S.BACKOFF,     StopRequested):  Row(_M._give_up,     (_S.STOPPED,)),", ""),
    "second drain cuts the first": ("if not event.drain:  #", "if True:  #"),
    "cancelled drain ends the process": (
        "(_S.DRAINING,    DrainCancelled): Row(_M._serve_on,    (_S.READY,)),",
        "(_S.DRAINING,    DrainCancelled): Row(_M._drained,    (_S.STOPPING,)),",
    ),
    "cancelled drain forgives the next crash": (
        "self.wanted, self._asked = True, False\n        self._move(WorkerState.READY",
        "self.wanted = True\n        self._move(WorkerState.READY",
    ),
    "drain never ends": ("(_S.DRAINING,    DeadlinePassed): Row(_M._cut,         (_S.STOPPING,)),", ""),
    "silent move": ("self._effects.append(Announce(old, new, reason))", ""),
    "terminate without signal": ("self._effects.append(Terminate())", ""),
    "spawns twice": ("self._effects.append(Spawn())", "self._effects += [Spawn(), Spawn()]"),
    "crash not remembered": ("self.crashes = [*self.policy.recent(self.crashes, now), now]", "pass"),
    "condemned and not ended": (
        "(_S.READY,       Condemned):      Row(_M._condemn,     (_S.STOPPING,)),",
        "",
    ),
    "sentence forgotten": ("elif self._sentence is not None and self._sentence.quarantine:", "elif False:"),
    "sentence outlives the process": ("self._sentence, self.held = None, False", "self.held = False"),
    "held for a time": (
        "self._move(WorkerState.QUARANTINED, None, reason)",
        "self._move(WorkerState.QUARANTINED, self.policy.quarantine_delay_s, reason)",
    ),
    "never pardoned": ("(_S.QUARANTINED, Pardoned):       Row(_M._pardon,      (_S.STARTING,)),", ""),
    "pardon without probation": ("if self.held:\n            self.on_probation = True", "if self.held:"),
    "lost while it waits": (
        "(_S.BACKOFF,     Condemned):      Row(_M._condemn_waiting, (_S.QUARANTINED,)),",
        "",
    ),
    "lost while it ends": ("(_S.STOPPING,    Condemned):      Row(_M._condemn_ending),", ""),
    "pardon lost while it ends": ("(_S.STOPPING,    Pardoned):       Row(_M._pardon_ending),", ""),
    "crashes never grow old": ("*self.policy.recent(self.crashes, now), now", "*self.crashes, now"),
}


@contextmanager
def seeded(source: str) -> Iterator[ModuleType]:
    """Run the source as a module of its own; dataclasses look theirs up in sys.modules."""
    module = ModuleType(NAME)
    sys.modules[NAME] = module
    try:
        exec(compile(source, NAME, "exec"), module.__dict__)  # noqa: S102 -- our own file, one edit
        yield module
    finally:
        del sys.modules[NAME]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_seeded_fault_is_noticed(fault: str) -> None:
    """The promises do not hold for a machine with this one fault."""
    right, wrong = FAULTS[fault]
    assert SOURCE.count(right) == 1, "the fault must hit exactly one place"
    with seeded(SOURCE.replace(right, wrong)) as module, pytest.raises((AssertionError, TypeError)):
        run_state_machine_as_test(life_of(module), settings=HUNT)


def test_the_same_check_passes_without_a_fault() -> None:
    """Otherwise the seeded faults would prove nothing."""
    with seeded(SOURCE) as module:
        run_state_machine_as_test(life_of(module), settings=QUICK)
