from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import NamedTuple

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.scheduling import scheduler
from tests.property.scheduler_machine import SchedulerMachine

QUICK = settings(max_examples=150, stateful_step_count=40, deadline=None)
HUNT = settings(
    max_examples=600,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
)


class Fault(NamedTuple):
    """A change of the scheduler's source that breaks a promise."""

    name: str
    found: str
    replacement: str


FAULTS = [
    Fault("a slot is never freed", "replica.busy.discard(request)", "pass"),
    Fault(
        "a waiter that left stays in the queue",
        "self._queues[variant].remove(request)\n            return",
        "return",
    ),
    Fault("a grant takes no slot", "worker.replicas[request.variant].busy.add(request.request)", "pass"),
    Fault("new capacity is not used", "self._dispatch(variant, now)", "pass"),
    Fault("a plan whose clients left stays", "while self._drop_plans_nobody_waits_for()", "while False"),
    Fault("the load does not wait for its victims", "not replica.victims & worker.replicas.keys()", "True"),
    Fault("keep-alive is ignored", "(replica.draining or expired)", "replica.draining"),
    Fault("busy models are unloaded", "if replica.idle and (", "if replica.phase is Phase.RESIDENT and ("),
    Fault("late requests wait for ever", "self._give_up_late_requests(now)", "pass"),
    Fault("the queue has no bound", "if not returning and self.queued(variant) >= bound", "if False"),
    Fault("too large a model waits", "if too_large is not None:", "if False:"),
    Fault(
        "a successor inherits the slots of the dead",
        "before.get(view.instance)",
        "next((w for i, w in before.items() if i.worker == view.instance.worker), None)",
    ),
    Fault("pinned models are evicted", "bool(replicas), self.protected())", "bool(replicas))"),
    Fault("pinned models expire", "kept = self.protected()", "kept = frozenset()"),
    Fault("max_replicas is ignored", "most is not None and holders >= most", "False"),
    Fault("effective slots are not believed", "= event.resident.slots, event", "= 3, event"),
]


def run(machine: type[SchedulerMachine], how: settings) -> None:
    """Give hypothesis the machine."""
    run_state_machine_as_test(machine, settings=how)


def test_promises_hold_for_any_history() -> None:
    """No sequence of events makes the scheduler break one of its promises."""
    run(SchedulerMachine, QUICK)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_promises_bite(fault: Fault) -> None:
    """Each seeded fault is seen by the machine, so the promises are worth something."""
    source = inspect.getsource(scheduler)
    assert fault.found in source, "the fault's text is not in the source any more"
    broken = ModuleType("broken_scheduler")
    sys.modules[broken.__name__] = broken  # dataclasses look their module up
    text = source.replace(fault.found, fault.replacement, 1)
    exec(compile(text, "broken_scheduler.py", "exec"), broken.__dict__)  # noqa: S102 -- our own source
    machine = type("BrokenMachine", (SchedulerMachine,), {"module": broken})
    with pytest.raises((AssertionError, KeyError)):
        run(machine, HUNT)
