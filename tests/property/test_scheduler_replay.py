"""The same events give the same effects, also in another process, where sets have another order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Final

from gateway.scheduling.types import Effect, Event, ReplicaBounds
from tests.property import scheduler_acts as acts
from tests.property.scheduler_machine import Scene, SchedulerMachine
from tests.support.scheduling_source import Fault, scheduling_with

ROOT: Final = Path(__file__).parents[2]
SCENE: Final = Scene(bounds=(None, ReplicaBounds(least=1)), max_queue=50, upheavals=40)
MOVES: Final = 400
NOTHING: Final = Fault("settling", "def settle(", "def settle(")
BY_HASH: Final = Fault(
    "settling",
    "list(state.touched.values()):\n        if model.queue.waiting",
    "sorted(state.touched.values(), key=lambda m: hash(m.variant)):\n        if model.queue.waiting",
)


def a_history(seed: int, module: ModuleType) -> str:
    """Play a random history, and return all effects as text."""
    machine_type = type("Machine", (SchedulerMachine,), {"module": module, "with_twin": False})
    chance, machine = Random(seed), machine_type()
    machine.scene, effects = SCENE, list[str]()
    handle = machine.witness.scheduler.handle

    def noted(event: Event, now: float) -> list[Effect]:
        done: list[Effect] = handle(event, now)
        effects.extend(map(repr, done))
        return done

    machine.witness.scheduler.handle = noted
    machine.fleet_appears(chance.randrange(5040), [chance.randrange(5040) for _ in range(2)])
    for _ in range(MOVES):
        _move(machine, chance)
    return "\n".join(effects)


def _move(machine: SchedulerMachine, chance: Random) -> None:
    witness, pick = machine.witness, chance.randrange(5040)
    match chance.randrange(8):
        case 0 | 1:
            machine.requests_arrive(pick, chance.randrange(5040))
        case 2 | 3 if witness.granted:
            machine.an_answer_goes_on(pick, chance.choice(["begins", "ends", "ends", "leaves", "fails"]))
        case 4 | 5 if any(world.loading or world.unloading for world in witness.worlds.values()):
            machine.a_worker_reports(pick, 0, 2)
        case 6:
            machine.time_passes(chance.choice([0.3, 1.07, 3.3]))
        case 7 if pick % 8 == 0:
            machine.fleet_changes(pick, chance.choice(["replaced", "up or down"]))
        case _:
            acts.look(witness, min(witness.worlds))


def histories(fault: Fault) -> str:
    """Return a few, played with a faulty scheduler."""
    with scheduling_with(fault) as module:
        return "\n".join(a_history(seed, module) for seed in range(6))


def _in_another_process(hash_seed: str, fault: Fault) -> str:
    code = f"from {__name__} import Fault, histories; print(histories({fault}))"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_same_events_have_the_same_effects_in_another_process() -> None:
    """Nothing depends on the order of a set, which differs from process to process."""
    first = _in_another_process("1", NOTHING)
    assert first.count("Grant(") > MOVES / 4
    assert first == _in_another_process("2", NOTHING)


def test_a_scheduler_that_goes_by_hashes_is_noticed() -> None:
    """The same comparison shows it."""
    assert _in_another_process("1", BY_HASH) != _in_another_process("2", BY_HASH)
