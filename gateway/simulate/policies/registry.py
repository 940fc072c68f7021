"""The policies by the names that the command and the reports use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Final

from gateway.simulate.machine import Machine
from gateway.simulate.policies.central_lru import CentralLru
from gateway.simulate.policies.corral import Corral
from gateway.simulate.policies.earliest_finish import EarliestFinish
from gateway.simulate.policies.policy import Policy
from gateway.simulate.policies.push import (
    HashOfModel,
    LeastConnections,
    RandomWorker,
    ResidentFirst,
    RoundRobin,
    SingleOllama,
)
from gateway.simulate.policies.zero_swap import ZeroSwap
from supervisor.contract.config import SchedulingConfig

CORRAL: Final = "corral"
CEILING: Final = "zero-swap"

_OTHERS: Final[Mapping[str, type[Policy]]] = {
    "central-lru": CentralLru,
    "single-ollama": SingleOllama,
    "earliest-finish": EarliestFinish,
    "resident-first": ResidentFirst,
    "least-connections": LeastConnections,
    "round-robin": RoundRobin,
    "random": RandomWorker,
    "hash": HashOfModel,
    CEILING: ZeroSwap,
}

POLICY_NAMES: Final = (CORRAL, *_OTHERS)
"""In the order of reports."""


def policy_maker(name: str, scheduling: SchedulingConfig) -> Callable[[Machine, Random], Policy]:
    """Return what makes the policy; `scheduling` holds the constants of Corral's own.

    Raises:
        KeyError: no policy has this name.
    """
    if name == CORRAL:
        return partial(Corral, scheduling=scheduling)
    return _OTHERS[name]
