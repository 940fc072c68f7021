from __future__ import annotations

from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property import scheduler_faults
from tests.property.scheduler_faults import ANY, EVENTFUL, FAULTS
from tests.property.scheduler_machine import BOUNDS, EventfulMachine, Scene, SchedulerMachine
from tests.support.scheduling_source import Fault, scheduling_with

SCENES: Final = {name: scene for name, scene in vars(scheduler_faults).items() if isinstance(scene, Scene)}
HUNT: Final = settings(
    max_examples=2000,  # a fault ends it: which histories come first depends on all that is imported
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    phases=(Phase.generate,),
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
"""For a verdict only: the same histories each time, and no search for a shorter one."""
SEARCH: Final = settings(HUNT, max_examples=200, stateful_step_count=40)
NOTHING: Final = Fault("settling", "def settle(", "def settle(")


def a_machine(**attributes: object) -> type[SchedulerMachine]:
    """Return the machine with a scene, or a scheduler, of its own."""
    scene = attributes.get("scene")
    eventful = isinstance(scene, Scene) and scene.eventful
    return type("Machine", (EventfulMachine if eventful else SchedulerMachine,), attributes)


@pytest.mark.parametrize("scene", [ANY, Scene(bounds=BOUNDS), EVENTFUL], ids=["free", "bounds", "eventful"])
def test_promises_hold_for_any_history(scene: Scene) -> None:
    """No sequence of events makes the scheduler break one of its promises."""
    run_state_machine_as_test(a_machine(scene=scene), settings=SEARCH)


@pytest.mark.parametrize("name", SCENES)
def test_promises_hold_in_the_scenes_of_the_hunt(name: str) -> None:
    """Otherwise the seeded faults would prove nothing."""
    with scheduling_with(NOTHING) as module:
        machine = a_machine(module=module, scene=SCENES[name], with_twin=False)
        run_state_machine_as_test(machine, settings=settings(HUNT, max_examples=50))


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_noticed(name: str) -> None:
    """The promises do not hold for a scheduler with this one fault."""
    scene, fault = FAULTS[name]
    with scheduling_with(fault) as module:
        machine = a_machine(module=module, scene=scene, with_twin=False)
        with pytest.raises((AssertionError, KeyError, IndexError, ValueError, StopIteration)):
            run_state_machine_as_test(machine, settings=HUNT)


def test_promises_hold_where_only_a_few_are_compared() -> None:
    """As in a fleet so large that only the most urgent models and some workers are looked at each time."""
    shorter = Fault("loading", "SHORTLIST: Final = 8", "SHORTLIST: Final = 1")
    with scheduling_with(shorter) as module:
        machine = a_machine(module=module, scene=ANY, with_twin=False)
        run_state_machine_as_test(machine, settings=SEARCH)
