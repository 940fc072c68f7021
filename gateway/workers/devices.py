"""What a worker computes on, in the words under which speeds are learned. Pure.

Two GPUs of one kind are equally fast, so their index is left out; a CPU worker is as fast as its cores are
many; of somebody else's worker only its address is known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from supervisor.contract.fleet import Device, DeviceKind
from supervisor.contract.values import parse_cores

_INDEX: Final = re.compile(r"^GPU \d+( MIG \d+)? ")


def device_of(devices: Sequence[Device]) -> str:
    """Return `NVIDIA L4`, `2 NVIDIA L4`, `CPU, 4 cores` or `http://10.0.0.7:11434`."""
    counted = Counter(_kind(device) for device in devices)
    return " + ".join(kind if number == 1 else f"{number} {kind}" for kind, number in sorted(counted.items()))


def computes_on_gpu(devices: Sequence[Device]) -> bool:
    """Whether these are GPUs of this machine."""
    return bool(devices) and all(device.kind is DeviceKind.GPU for device in devices)


def _kind(device: Device) -> str:
    match device.kind:
        case DeviceKind.GPU:
            return _INDEX.sub("", device.label)
        case DeviceKind.CPU:
            return f"CPU, {_cores(device.id)}"
        case DeviceKind.REMOTE:
            return device.id


def _cores(text: str) -> str:
    try:
        number = len(parse_cores(text))
    except ValueError:
        return f"cores {text}"
    return "1 core" if number == 1 else f"{number} cores"
